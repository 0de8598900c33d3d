// Opening checkpoints: the goldens, folders with a lie in them (index, shards, tensors,
// configuration), MTP and what is ignored. Each hostile case starts from a golden and changes one
// thing.
#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/layout.h"
#include "support/temporary_folder.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing_support::TemporaryFolder;

const fs::path kGoldens = fs::path(ERNE_TESTS_DIR) / "goldens/text";

// A tensor in memory, to be changed and written again.
struct Item {
  TensorInfo info;
  std::string data;
};
using Items = std::map<std::string, Item>;

Items read_items(const fs::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  Items items;
  for (const StoredTensor& tensor : file.tensors()) {
    items[tensor.info.name] = {
        tensor.info, std::string(reinterpret_cast<const char*>(tensor.data), tensor.bytes)};
  }
  return items;
}

void write_items(const fs::path& path, const Items& items) {
  std::vector<TensorInfo> infos;
  for (const auto& [name, item] : items) {
    infos.push_back(item.info);
    infos.back().name = name;
  }
  SafetensorsWriter writer(path, infos);
  for (const auto& [name, item] : items) writer.write(item.data.data(), item.data.size());
  writer.commit();
}

Item zeros(DType dtype, const std::vector<int64_t>& shape) {
  Item item{{"", dtype, shape}, ""};
  item.data.assign(item.info.bytes(), '\0');
  return item;
}

// A golden with its configuration and tensors changed.
class Variant {
 public:
  explicit Variant(const char* golden)
      : items_(read_items(kGoldens / golden / "model.safetensors")) {
    config_ = parse_json(read_file(kGoldens / golden / "config.json"), "config.json");
  }
  Items& items() { return items_; }
  Json& config() { return config_; }
  std::unique_ptr<Checkpoint> open() {
    write_items(folder_ / "model.safetensors", items_);
    write_file(folder_ / "config.json", config_.dump());
    return Checkpoint::open(folder_.path());
  }
  std::string error() {
    try {
      open();
    } catch (const Error& e) {
      code_ = e.code();
      return e.what();
    }
    return "no error";
  }
  Code code() const { return code_; }

 private:
  TemporaryFolder folder_;
  Items items_;
  Json config_;
  Code code_ = Code::kInternal;
};

TEST(Checkpoint, OpensEveryGolden) {
  for (const char* name : {"dense-tied", "dense-bias", "moe", "moe-sharded"}) {
    SCOPED_TRACE(name);
    const auto checkpoint = Checkpoint::open(kGoldens / name);
    const TextConfig& config = checkpoint->config();
    EXPECT_EQ(checkpoint->layout(), CheckpointLayout::kPt);
    EXPECT_EQ(checkpoint->num_mtp_layers(), 0);
    EXPECT_THAT(checkpoint->generation_config().eos_ids, testing::ElementsAre(2));
    int64_t stored = 0;
    for (const auto& entry : checkpoint->entries()) stored += static_cast<int64_t>(entry.bytes / 4);
    EXPECT_EQ(config.num_parameters(), stored);
    const MatrixView q = checkpoint->matrix("model.layers.0.self_attn.q_proj.weight",
                                            config.q_size(), config.hidden_size);
    EXPECT_EQ(q.dtype, DType::kF32);
    EXPECT_EQ(q.row_stride, config.hidden_size);
    EXPECT_THROW(
        checkpoint->matrix("model.layers.0.self_attn.q_proj.weight", config.hidden_size, 1), Error);
    EXPECT_THROW(checkpoint->matrix("model.layers.99.self_attn.q_proj.weight", 1, 1), Error);
    EXPECT_THROW(checkpoint->vector("model.norm.weight", 1), Error);
    EXPECT_FALSE(checkpoint->has("model.layers.99.input_layernorm.weight"));
    EXPECT_EQ(checkpoint->vector("model.norm.weight", config.hidden_size).size(),
              static_cast<size_t>(config.hidden_size));
  }
}

TEST(Checkpoint, RefusesFoldersWithoutAModel) {
  TemporaryFolder folder;
  EXPECT_THROW(Checkpoint::open(folder / "absent"), Error);
  EXPECT_THROW(Checkpoint::open(folder.path()), Error);
  fs::copy_file(kGoldens / "moe/config.json", folder / "config.json");
  try {
    Checkpoint::open(folder.path());
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kNotFound);
    EXPECT_THAT(e.what(),
                HasSubstr("has neither model.safetensors nor model.safetensors.index.json"));
  }
}

TEST(Checkpoint, RefusesCyclicLinksInPlaceOfFiles) {
  for (const char* name : {"config.json", "generation_config.json", "model.safetensors"}) {
    TemporaryFolder folder;
    fs::copy(kGoldens / "dense-tied", folder.path(), fs::copy_options::recursive);
    fs::remove(folder / name);
    fs::create_symlink(name, folder / name);
    try {
      Checkpoint::open(folder.path());
      ADD_FAILURE() << name;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), AllOf(HasSubstr(name), HasSubstr("symbolic links")));
    }
  }
}

TEST(Checkpoint, RefusesContradictions) {
  struct Case {
    const char* what;
    const char* golden;
    std::function<void(Items&, Json&)> change;
    std::vector<const char*> messages;
  };
  const std::string layer1 = "model.layers.1.";
  const std::vector<Case> cases{
      {"missing norm",
       "moe",
       [](Items& t, Json&) { t.erase("model.norm.weight"); },
       {"'model.norm.weight' [64] is missing"}},
      {"missing expert",
       "moe",
       [&](Items& t, Json&) { t.erase(layer1 + "mlp.experts.7.up_proj.weight"); },
       {"experts.7.up_proj.weight' [48, 64] is missing"}},
      {"missing correction bias",
       "moe",
       [&](Items& t, Json&) { t.erase(layer1 + "mlp.moe_statics.e_score_correction_bias"); },
       {"e_score_correction_bias' [1, 8] is missing"}},
      {"missing head",
       "dense-tied",
       [](Items&, Json& c) { c["tie_word_embeddings"] = false; },
       {"'lm_head.weight' [512, 64] is missing"}},
      {"missing bias",
       "dense-tied",
       [](Items&, Json& c) { c["use_bias"] = true; },
       {"q_proj.bias' [64] is missing"}},
      {"wrong vocabulary",
       "moe",
       [](Items&, Json& c) { c["vocab_size"] = 513; },
       {"embed_tokens.weight' has shape [512, 64], config.json asks for [513, 64]"}},
      {"wrong intermediate size",
       "moe",
       [](Items&, Json& c) { c["intermediate_size"] = 193; },
       {"has shape [64, 192], config.json asks for [64, 193]"}},
      {"wrong heads",
       "dense-bias",
       [](Items&, Json& c) { c["num_attention_heads"] = 2; },
       {"has shape", "config.json asks for"}},
      {"too few layers",
       "moe",
       [](Items&, Json& c) { c["num_hidden_layers"] = 3; },
       {"'model.layers.3.",
        "has no place in the model that config.json describes (num_hidden_layers 3"}},
      {"too many layers",
       "dense-tied",
       [](Items&, Json& c) { c["num_hidden_layers"] = 4; },
       {"'model.layers.3.input_layernorm.weight' [64] is missing"}},
      {"too few experts",
       "moe",
       [](Items&, Json& c) { c["moe_num_experts"] = 7; },
       {"config.json"}},
      {"no shared experts",
       "moe",
       [](Items&, Json& c) { c["moe_num_shared_experts"] = 0; },
       {"shared_experts", "has no place"}},
      {"dense configuration",
       "moe",
       [](Items&, Json& c) {
         c["moe_num_experts"] = 0;
         c["model_type"] = "ernie4_5";
         c["architectures"] = {"Ernie4_5ForCausalLM"};
       },
       {"has no place"}},
      {"biases not announced",
       "dense-bias",
       [](Items&, Json& c) { c["use_bias"] = false; },
       {".bias' has no place", "use_bias false"}},
      {"integer weights",
       "moe",
       [](Items& t, Json&) { t["model.norm.weight"] = zeros(DType::kI32, {64}); },
       {"'model.norm.weight' has dtype int32; a floating one"}},
      {"vector as a column",
       "moe",
       [](Items& t, Json&) {
         t["model.norm.weight"] = zeros(DType::kF32, {64, 1});
       },
       {"has shape [64, 1], config.json asks for [64]"}},
      {"scalar norm",
       "moe",
       [](Items& t, Json&) { t["model.norm.weight"] = zeros(DType::kF32, {}); },
       {"has shape [], config.json asks for [64]"}},
      {"matrix of rank 3",
       "moe",
       [](Items& t, Json&) {
         t["model.embed_tokens.weight"] = zeros(DType::kF32, {1, 512, 64});
       },
       {"has shape [1, 512, 64]"}},
      {"two spellings of one tensor",
       "moe",
       [](Items& t, Json&) { t["ernie.norm.weight"] = zeros(DType::kF32, {64}); },
       {"gives model.norm.weight, which"}},
      {"fused and separate",
       "dense-tied",
       [](Items& t, Json&) {
         t["model.layers.0.self_attn.qkv_proj.weight"] = zeros(DType::kF32, {128, 64});
       },
       {"q_proj.weight, which"}},
      {"fused of a wrong width",
       "dense-tied",
       [](Items& t, Json&) {
         for (const char* p : {"q", "k", "v"}) {
           t.erase(fmt::format("model.layers.0.self_attn.{}_proj.weight", p));
         }
         t["model.layers.0.self_attn.qkv_proj.weight"] = zeros(DType::kF32, {127, 64});
       },
       {"qkv_proj.weight' has shape [127, 64], config.json asks for [128, 64]"}},
      {"stacked experts of a wrong width",
       "moe",
       [](Items& t, Json&) {
         t["model.layers.1.mlp.experts.down_proj"] = zeros(DType::kF32, {8, 64, 47});
       },
       {"has shape [8, 64, 47], config.json asks for [8, 64, 48]"}},
      {"stacked experts in a dense layer",
       "moe",
       [](Items& t, Json&) {
         t["model.layers.0.mlp.experts.down_proj"] = zeros(DType::kF32, {8, 64, 48});
       },
       {"has no place"}},
      {"one matrix transposed",
       "moe",
       [](Items& t, Json&) {
         t["model.layers.2.self_attn.k_proj.weight"] = zeros(DType::kF32, {64, 32});
       },
       {"'model.layers.2.self_attn.k_proj.weight' has shape [64, 32]"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    Variant variant(c.golden);
    c.change(variant.items(), variant.config());
    const std::string message = variant.error();
    for (const char* part : c.messages) EXPECT_THAT(message, HasSubstr(part));
    EXPECT_EQ(variant.code(), Code::kCorrupt);
  }
}

TEST(Checkpoint, RefusesQuantisedTensorsByName) {
  for (const char* suffix : {"quant_weight", "weight_scale", "activation_scale", "super_scales",
                             "code_scale", "code_zp", "weight_scale_inv", "qweight"}) {
    Variant variant("dense-tied");
    const std::string name = fmt::format("model.layers.0.mlp.down_proj.{}", suffix);
    variant.items()[name] = zeros(DType::kI8, {4});
    EXPECT_THAT(variant.error(), AllOf(HasSubstr("'" + name + "'"), HasSubstr("quantised")))
        << suffix;
    EXPECT_EQ(variant.code(), Code::kUnsupported);
  }
}

TEST(Checkpoint, IgnoresWhatIsHarmless) {
  Variant variant("dense-tied");
  variant.items()["lm_head.weight"] = zeros(DType::kF32, {512, 64});  // a copy in a tied model
  variant.items()["model.layers.0.self_attn.rotary_emb.inv_freq"] = zeros(DType::kF32, {8});
  variant.items()["something.else"] = zeros(DType::kI64, {2, 2});
  const auto checkpoint = variant.open();
  EXPECT_FALSE(checkpoint->has("lm_head.weight"));
  EXPECT_FALSE(checkpoint->has("something.else"));
  EXPECT_EQ(checkpoint->entries().size(), variant.items().size());
}

TEST(Checkpoint, MtpLayersAreFoundOrRefused) {
  Variant variant("moe");
  variant.config()["num_nextn_predict_layers"] = 1;
  EXPECT_EQ(variant.open()->num_mtp_layers(), 0);  // transformers drops them on saving
  const TextConfig config = TextConfig::parse(variant.config().dump(), "config.json");
  for (const ExpectedTensor& tensor : expected_mtp_tensors(config, 0)) {
    variant.items()[tensor.name] = zeros(DType::kF32, tensor.pt_shape());
  }
  EXPECT_EQ(variant.items().count("model.mtp_block.0.self_attn.q_proj.weight"), 1U);
  EXPECT_EQ(variant.open()->num_mtp_layers(), 1);
  // A converter that forgot to turn this one (spec text.md 2.4 rule 7).
  variant.items()["model.mtp_linear_proj.0.weight"] = zeros(DType::kF32, {128, 64});
  const auto turned = variant.open();
  EXPECT_EQ(turned->matrix("model.mtp_linear_proj.0.weight", 64, 128).col_stride, 64);
  variant.items().erase("model.mtp_hidden_norm.0.weight");
  EXPECT_THAT(variant.error(), HasSubstr("'model.mtp_hidden_norm.0.weight' [64] is missing"));
}

TEST(Checkpoint, PaddleBitsAreBfloat16) {
  Variant variant("dense-tied");
  Item& norm = variant.items()["model.norm.weight"];
  norm = zeros(DType::kU16, {64});
  const uint16_t bits = to_bf16(1.5F).bits;
  std::memcpy(norm.data.data() + 2, &bits, 2);
  const auto checkpoint = variant.open();
  EXPECT_EQ(checkpoint->dtype("model.norm.weight"), DType::kBF16);
  EXPECT_EQ(checkpoint->vector("model.norm.weight", 64)[1], 1.5F);
}

// ---- the index

class IndexTest : public testing::Test {
 protected:
  IndexTest() {
    fs::copy(kGoldens / "moe-sharded", folder_.path(), fs::copy_options::recursive);
    index_ = parse_json(read_file(folder_ / kIndex), "index");
  }
  std::string error(const std::string& index_text) {
    write_file(folder_ / kIndex, index_text);
    try {
      Checkpoint::open(folder_.path());
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
  std::string error() { return error(index_.dump()); }

  static constexpr const char* kIndex = "model.safetensors.index.json";
  static constexpr const char* kShard2 = "model-00002-of-00007.safetensors";
  TemporaryFolder folder_;
  Json index_;
};

TEST_F(IndexTest, ReadsAnyMetadata) {
  index_["metadata"] = {{"total_size", -5}};
  EXPECT_EQ(error(), "no error");
  index_.erase("metadata");
  EXPECT_EQ(error(), "no error");
}

TEST_F(IndexTest, RefusesPathsThatLeaveTheFolder) {
  for (const char* path : {"../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..",
                           ".", "", "..\\model.safetensors", "a/../../b"}) {
    index_["weight_map"]["model.norm.weight"] = path;
    EXPECT_THAT(error(), AllOf(HasSubstr(kIndex), HasSubstr("'model.norm.weight' is said to be in"),
                               HasSubstr("plain file name")))
        << path;
  }
  index_["weight_map"]["model.norm.weight"] = std::string("a\0b", 3);
  EXPECT_THAT(error(), HasSubstr("plain file name"));
}

TEST_F(IndexTest, RefusesMissingAndCyclicFiles) {
  fs::remove(folder_ / kShard2);
  EXPECT_THAT(error(), AllOf(HasSubstr(kShard2), HasSubstr("does not exist, though")));
  fs::create_symlink(kShard2, folder_ / kShard2);  // a link to itself
  EXPECT_THAT(error(), AllOf(HasSubstr(kShard2), HasSubstr("symbolic links")));
  fs::remove(folder_ / kShard2);
  fs::create_symlink("gone", folder_ / kShard2);
  EXPECT_THAT(error(), AllOf(HasSubstr(kShard2), HasSubstr("No such file")));
  fs::remove(folder_ / kShard2);
  fs::create_directory(folder_ / kShard2);
  EXPECT_THAT(error(), AllOf(HasSubstr(kShard2), HasSubstr("not a regular file")));
}

TEST_F(IndexTest, FollowsTheLinksOfTheHubCache) {
  fs::create_directory(folder_ / "blobs");
  fs::rename(folder_ / kShard2, folder_ / "blobs/abc");
  fs::create_symlink("blobs/abc", folder_ / kShard2);
  EXPECT_EQ(error(), "no error");
}

TEST_F(IndexTest, RefusesTensorsInTheWrongFile) {
  index_["weight_map"]["model.norm.weight"] = "model-00001-of-00007.safetensors";
  EXPECT_THAT(error(), AllOf(HasSubstr("'model.norm.weight' is said to be in model-00001"),
                             HasSubstr("does not have it")));
  index_["weight_map"].erase("model.norm.weight");
  index_["weight_map"]["model.ghost.weight"] = kShard2;
  EXPECT_THAT(error(), HasSubstr("'model.ghost.weight' is said to be in"));
}

TEST_F(IndexTest, RefusesSenselessMaps) {
  EXPECT_THAT(error("[]"), HasSubstr("no weight_map"));
  EXPECT_THAT(error("{}"), HasSubstr("no weight_map"));
  EXPECT_THAT(error(R"({"weight_map": {}})"), HasSubstr("no weight_map"));
  EXPECT_THAT(error(R"({"weight_map": {"a": 3}})"),
              HasSubstr("the file of tensor 'a' is not a string"));
  EXPECT_THAT(error(R"({"weight_map": {"a": "x", "a": "y"}})"),
              HasSubstr("key \"a\" is given twice"));
  EXPECT_THAT(error("{"), HasSubstr("invalid JSON"));
}

TEST_F(IndexTest, RefusesATensorInTwoShards) {
  Items items = read_items(folder_ / kShard2);
  items["model.norm.weight"] = zeros(DType::kF32, {128});
  write_items(folder_ / kShard2, items);
  EXPECT_THAT(error(), AllOf(HasSubstr("tensor 'model.norm.weight' is in"), HasSubstr("too")));
}

TEST_F(IndexTest, RefusesATruncatedShard) {
  fs::resize_file(folder_ / kShard2, fs::file_size(folder_ / kShard2) - 1);
  EXPECT_THAT(error(), AllOf(HasSubstr(kShard2), HasSubstr("truncated")));
}

}  // namespace
}  // namespace erne
