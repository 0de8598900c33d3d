// Packed folders: the same bits as the folder they were packed from, mapped or copied; what does
// not fit or is broken is refused with what would be right.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "cpu/cpu_device.h"
#include "device/null_device.h"
#include "model/checkpoint.h"
#include "model/convert.h"
#include "model/kv_scales.h"
#include "model/pack_model.h"
#include "model/packed_weights.h"
#include "model/quantize.h"
#include "support/temporary_folder.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::TemporaryFolder;

const fs::path kGoldens = fs::path(ERNE_TESTS_DIR) / "goldens/text";

LoadOptions options(DType dtype, const char* scheme = "none", const char* mixed = "",
                    std::optional<Inputs> inputs = {}) {
  LoadOptions load;
  load.dtype = dtype;
  load.quantization = QuantizationPlan::parse(scheme, mixed);
  load.inputs = inputs;
  return load;
}

void pack(const fs::path& from, const fs::path& to, const LoadOptions& load,
          const std::string& isa = "") {
  pack_model({from, to, from.string(), load, false}, *make_cpu_device(2, isa));
}

// Logits of every position of a prompt, [40, V].
std::vector<float> logits(const fs::path& folder, const LoadOptions& load) {
  const auto device = make_cpu_device(2);
  const auto model = TextModel::load(Checkpoint::open(folder), *device, load);
  constexpr int kTokens = 40;
  std::vector<int32_t> ids, positions;
  for (int i = 0; i < kTokens; ++i) {
    ids.push_back(i * 7 % static_cast<int>(model->config().vocab_size));
    positions.push_back(i);
  }
  const std::vector<int32_t> starts = {0, kTokens}, context = {kTokens}, table = {0, 1, 2};
  KvCache cache = device->make_kv_cache(model->kv_spec(16), 3);
  Arena arena(Buffer::host(model->arena_bytes(kTokens, kTokens)));
  Ctx ctx{*device, arena};
  const Batch batch{ids, positions, starts, context, table, 3, positions};
  const Tensor out = model->forward(ctx, batch, cache);
  return {out.ptr<float>(), out.ptr<float>() + out.elements()};
}

std::string message(const std::function<void()>& action, Code code) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return {};
}

struct Case {
  const char* golden;
  LoadOptions load;
};

TEST(PackedModel, SameBitsMappedOrCopied) {
  const Case cases[] = {
      {"dense-tied", options(DType::kBF16)},
      {"dense-bias", options(DType::kF32)},
      {"moe", options(DType::kBF16)},
      {"moe", options(DType::kF32, "wint8", "lm_head=wint8")},
      {"dense-tied", options(DType::kBF16, "wint4:g32:min", "lm_head=wint8", Inputs::kInt8)},
      {"dense-bias", options(DType::kBF16, "fp8_block")},
      {"dense-bias", options(DType::kBF16, "fp8_channel")},
      {"dense-tied", options(DType::kBF16, "fp8_tensor:r32")},
      {"dense-bias", options(DType::kBF16, "w8a8")},
      {"moe", options(DType::kBF16, "w4a8")},
      {"dense-bias", options(DType::kF32, "w4a8:r1")},
      {"moe", options(DType::kBF16, "wint2.5", "experts=wint2.5")},
      {"dense-bias", options(DType::kF32, "wint2", "mlp=wint2")}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.golden + c.load.quantization.text());
    TemporaryFolder folder;
    pack(kGoldens / c.golden, folder / "packed", c.load);
    const std::vector<float> expected = logits(kGoldens / c.golden, c.load);
    LoadOptions as_packed;
    as_packed.dtype = c.load.dtype;  // the rest is in the folder
    for (const WeightPlace place : {WeightPlace::kMapped, WeightPlace::kCopied}) {
      as_packed.place = place;
      EXPECT_EQ(logits(folder / "packed", as_packed), expected);
    }
  }
}

TEST(PackedModel, KeepsTheCodesOfAQuantisedFolder) {
  TemporaryFolder folder;
  quantize({.input = kGoldens / "moe",
            .output = folder / "codes",
            .plan = QuantizationPlan::parse("wint4:g32", "lm_head=wint8")});
  pack(folder / "codes", folder / "packed", options(DType::kBF16));
  EXPECT_EQ(logits(folder / "packed", options(DType::kBF16)),
            logits(folder / "codes", options(DType::kBF16)));
  EXPECT_EQ(Checkpoint::open(folder / "packed")->config().quant_method, "");
}

// `from` with further tensors.
void add_tensors(const fs::path& from, const fs::path& to,
                 const std::map<std::string, std::vector<float>>& extra) {
  fs::create_directories(to);
  fs::copy_file(from / "config.json", to / "config.json");
  const SafetensorsFile file = SafetensorsFile::open(from / "model.safetensors");
  std::vector<TensorInfo> infos;
  for (const StoredTensor& tensor : file.tensors()) infos.push_back(tensor.info);
  for (const auto& [name, values] : extra)
    infos.push_back({name, DType::kF32, {static_cast<int64_t>(values.size())}});
  SafetensorsWriter writer(to / "model.safetensors", infos);
  for (const StoredTensor& tensor : file.tensors()) writer.write(tensor.data, tensor.bytes);
  for (const auto& [name, values] : extra)
    writer.write(values.data(), values.size() * sizeof(float));
  writer.commit();
}

TEST(PackedModel, KeepsStaticScalesOfInputsAndOfTheCache) {
  TemporaryFolder folder;
  quantize({.input = kGoldens / "dense-bias",
            .output = folder / "codes",
            .plan = QuantizationPlan::parse("w4a8", "")});
  std::map<std::string, std::vector<float>> extra;
  const std::string codes = ".inputs";
  for (const Checkpoint::Entry& entry : Checkpoint::open(folder / "codes")->entries()) {
    if (entry.name.ends_with(codes))
      extra[entry.name.substr(0, entry.name.size() - codes.size()) + ".input_absmax"] = {3.3F};
  }
  ASSERT_GT(extra.size(), 4U);
  for (const char* layer : {"0", "1"}) {
    for (const char* part : {"cachek", "cachev"}) {
      const std::string name =
          fmt::format("model.layers.{}.self_attn.{}_matmul.activation_scale", layer, part);
      extra[name] = {part[5] == 'k' ? 6.1F : 4.3F};
    }
  }
  add_tensors(folder / "codes", folder / "static", extra);
  pack(folder / "static", folder / "packed", options(DType::kBF16));
  const std::vector<float> expected = logits(folder / "static", options(DType::kBF16));
  EXPECT_EQ(logits(folder / "packed", options(DType::kBF16)), expected);
  EXPECT_NE(logits(folder / "codes", options(DType::kBF16)), expected);
  const auto checkpoint = Checkpoint::open(folder / "packed");
  EXPECT_EQ(checkpoint->packed()->cache_dtype, DType::kI8);
  EXPECT_EQ(checkpoint->kv_absmax().size(), 2U);
  EXPECT_THAT(
      message([&] { logits(folder / "packed", options(DType::kBF16, "none", "", Inputs::kFull)); },
              Code::kInvalidArgument),
      HasSubstr("--act-dtype bf16"));
}

// A device whose weights nobody keeps.
TEST(PackedModel, IsRefusedByOtherDevices) {
  TemporaryFolder folder;
  pack(kGoldens / "dense-tied", folder / "packed", options(DType::kBF16));
  NullDevice device;
  const std::string text = message(
      [&] { TextModel::load(Checkpoint::open(folder / "packed"), device, options(DType::kBF16)); },
      Code::kUnsupported);
  EXPECT_THAT(text, HasSubstr("is packed for the CPU"));
  EXPECT_THAT(text, HasSubstr((kGoldens / "dense-tied").string()));
}

TEST(PackedModel, SaysWhatItIs) {
  TemporaryFolder folder;
  pack(kGoldens / "dense-tied", folder / "packed",
       options(DType::kBF16, "wint8", "lm_head=wint8,attention=wint4:g32", Inputs::kInt8));
  const auto checkpoint = Checkpoint::open(folder / "packed");
  ASSERT_NE(checkpoint->packed(), nullptr);
  const PackedWeights& packed = *checkpoint->packed();
  EXPECT_EQ(packed.flags,
            "--dtype bfloat16 --quantization wint8 --mixed lm_head=wint8,attention=wint4:g32 "
            "--act-dtype int8");
  EXPECT_EQ(packed.inputs, Inputs::kInt8);
  EXPECT_EQ(packed.linears.size(), 1 + 4 * static_cast<size_t>(checkpoint->config().num_layers));
  const PackedWeight& qkv = packed.linears.at("model.layers.0.self_attn.qkv_proj");
  EXPECT_EQ(qkv.n, checkpoint->config().q_size() + 2 * checkpoint->config().kv_size());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(packed.data.data()) % kPackedAlign, 0U);
  EXPECT_EQ(fs::file_size(folder / "packed" / kPackedFile) % 2, 0U);
}

TEST(PackedModel, RefusesWhatItIsNot) {
  TemporaryFolder folder;
  const fs::path packed = folder / "packed";
  pack(kGoldens / "dense-tied", packed, options(DType::kBF16));
  const auto load = [&](const LoadOptions& with) {
    return message([&] { logits(packed, with); }, Code::kInvalidArgument);
  };
  EXPECT_THAT(load(options(DType::kF32)), HasSubstr("erne convert --pack"));
  EXPECT_THAT(load(options(DType::kBF16, "wint8")), HasSubstr("--quantization wint8"));
  EXPECT_THAT(load(options(DType::kBF16, "none", "", Inputs::kInt8)), HasSubstr("has none"));
  LoadOptions mapped = options(DType::kBF16);
  mapped.place = WeightPlace::kMapped;
  EXPECT_THAT(message([&] { logits(kGoldens / "dense-tied", mapped); }, Code::kInvalidArgument),
              HasSubstr("--mmap"));
  const auto refused = [&](const std::function<void()>& action) {
    EXPECT_THAT(message(action, Code::kInvalidArgument), HasSubstr("is packed for a processor"));
  };
  refused([&] { convert({.input = packed, .output = folder / "out"}); });
  refused([&] {
    quantize(
        {.input = packed, .output = folder / "out", .plan = QuantizationPlan::parse("wint8", "")});
  });
  refused([&] { pack(packed, folder / "out", options(DType::kBF16)); });
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(PackedModel, RefusesTheLayoutOfAnotherProcessor) {
  if (available_isas().size() == 1) GTEST_SKIP() << "one kernel table";
  TemporaryFolder folder;
  pack(kGoldens / "dense-tied", folder / "packed", options(DType::kBF16), "generic");
  const std::string text =
      message([&] { logits(folder / "packed", options(DType::kBF16)); }, Code::kUnsupported);
  EXPECT_THAT(text, HasSubstr("Pack the model for it: erne convert --pack"));
  EXPECT_THAT(text, HasSubstr("--dtype bfloat16"));
}

// Replaces text in the header by other text of the same length.
void edit(const fs::path& folder, const std::string& from, const std::string& to) {
  ASSERT_EQ(from.size(), to.size());
  std::string bytes = read_file(folder / kPackedFile);
  const size_t at = bytes.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  bytes.replace(at, from.size(), to);
  write_file(folder / kPackedFile, bytes);
}

TEST(PackedModel, RefusesBrokenFiles) {
  struct Break {
    const char *from, *to;
    Code code;
    const char* words;
  };
  const Break breaks[] = {
      {"\"version\":\"1\"", "\"version\":\"2\"", Code::kUnsupported, "another version"},
      {"erne packed weights", "erne packed widgets", Code::kCorrupt, "'format'"},
      {"|numbers|", "|integer|", Code::kCorrupt, "format of codes"},
      {"|numbers|", "|int8:99|", Code::kCorrupt, "format of codes"},
      {"|plain|", "|plane|", Code::kCorrupt, "kind"},
      {"|plain|", "|-lain|", Code::kCorrupt, "kind"},
      {"|numbers|0|", "|numbers|9|", Code::kCorrupt, "largest input"},
      {"\"cache\":\"bfloat16\"", "\"cache\":\"bfloat17\"", Code::kCorrupt, "bfloat16"},
      {"cpu1/", "cpu0/", Code::kUnsupported, "layout"},
      {"\"dtype\":\"bfloat16\"", "\"dtype\":\"bfloat17\"", Code::kCorrupt, "bfloat16 are valid"},
      {"lm_head.packed", "lm_tail.packed", Code::kCorrupt, "is missing"},
      {"\"U8\"", "\"I8\"", Code::kCorrupt, "whole pages"}};
  for (const Break& b : breaks) {
    SCOPED_TRACE(b.to);
    TemporaryFolder folder;
    pack(kGoldens / "dense-tied", folder / "packed", options(DType::kBF16));
    edit(folder / "packed", b.from, b.to);
    EXPECT_THAT(message([&] { logits(folder / "packed", options(DType::kBF16)); }, b.code),
                HasSubstr(b.words));
  }
}

TEST(PackedModel, RefusesWrongSizes) {
  TemporaryFolder folder;
  const fs::path packed = folder / "packed";
  const auto refused = [&](const char* words) {
    EXPECT_THAT(message([&] { logits(packed, options(DType::kBF16)); }, Code::kCorrupt),
                HasSubstr(words));
  };
  const auto again = [&] {
    fs::remove_all(packed);
    pack(kGoldens / "dense-tied", packed, options(DType::kBF16));
  };
  again();
  fs::resize_file(packed / kPackedFile, fs::file_size(packed / kPackedFile) - 1);
  refused("packed.safetensors");
  again();
  const auto config = Checkpoint::open(packed)->config();
  const std::string rows = fmt::format("{}|{}|plain", config.vocab_size, config.hidden_size);
  std::string more = rows;
  more[0] = more[0] == '9' ? '8' : '9';
  edit(packed, rows, more);
  refused("config.json asks for");
  again();
  fs::remove(packed / kPackedFile);
  EXPECT_THAT(message([&] { logits(packed, options(DType::kBF16)); }, Code::kNotFound),
              HasSubstr("model.safetensors"));
}

TEST(PackedModel, AFailedRunLeavesNothing) {
  TemporaryFolder folder;
  fs::copy(kGoldens / "dense-tied", folder / "in", fs::copy_options::recursive);
  const fs::path weights = folder / "in" / "model.safetensors";
  fs::resize_file(weights, fs::file_size(weights) - 1);
  EXPECT_THROW(pack(folder / "in", folder / "out", options(DType::kBF16)), Error);
  fs::remove_all(folder / "in");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace erne
