// Folders of other projects, made from one golden: the same 4-bit codes in every packing give the
// same weights, and a folder with a lie in it is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/checkpoint.h"
#include "model/golden_gguf.h"
#include "model/quantized_tensors.h"
#include "quant/packing.h"
#include "support/temporary_folder.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using namespace testing_support;  // NOLINT

const fs::path kMoe = fs::path(ERNE_TESTS_DIR) / "goldens/text/moe";
constexpr const char* kQ = "model.layers.0.self_attn.q_proj";

struct Stored {
  TensorInfo info;
  std::string bytes;
};
using Tensors = std::map<std::string, Stored>;

template <typename T>
Stored stored(const std::string& name, DType dtype, std::vector<int64_t> shape,
              const std::vector<T>& values) {
  return {{name, dtype, std::move(shape)},
          {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)}};
}

// The codes 0 … 15 of weight (n, k), one scale a row, zero point 8: every format can say that.
uint8_t code_of(int64_t n, int64_t k) { return static_cast<uint8_t>((n * 7 + k * 3 + n * k) % 16); }
float scale_of(int64_t n) { return 0.0078125F * static_cast<float>(1 + n % 4); }
float value_of(int64_t n, int64_t k) { return static_cast<float>(code_of(n, k) - 8) * scale_of(n); }

template <typename T>
std::vector<T> each(int64_t count, const std::function<T(int64_t)>& at) {
  std::vector<T> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(at(i));
  return values;
}

std::vector<f16> scales(int64_t rows) {
  return each<f16>(rows, [](int64_t n) { return to_f16(scale_of(n)); });
}

using Packer = std::function<std::vector<Stored>(const std::string& module, int64_t n, int64_t k)>;

std::vector<Stored> awq(const std::string& module, int64_t rows, int64_t cols) {
  std::vector<uint8_t> codes;
  for (int64_t k = 0; k < cols; ++k) {
    for (int64_t n = 0; n < rows; ++n) codes.push_back(code_of(n, k));
  }
  const std::vector<uint8_t> zeros(static_cast<size_t>(rows), 8);
  return {stored(module + ".qweight", DType::kI32, {cols, rows / 8}, awq_pack(codes)),
          stored(module + ".qzeros", DType::kI32, {1, rows / 8}, awq_pack(zeros)),
          stored(module + ".scales", DType::kF16, {1, rows}, scales(rows))};
}

std::vector<Stored> gptq(const std::string& module, int64_t rows, int64_t cols) {
  std::vector<uint32_t> words;
  for (int64_t w = 0; w < cols / 8; ++w) {
    for (int64_t n = 0; n < rows; ++n) {
      const auto eight = each<uint8_t>(8, [&](int64_t i) { return code_of(n, w * 8 + i); });
      words.push_back(pack_bits(eight, 4)[0]);
    }
  }
  const std::vector<uint8_t> zeros(static_cast<size_t>(rows), 7);
  const std::vector<int32_t> order(static_cast<size_t>(cols), 0);
  return {stored(module + ".qweight", DType::kI32, {cols / 8, rows}, words),
          stored(module + ".qzeros", DType::kI32, {1, rows / 8}, pack_bits(zeros, 4)),
          stored(module + ".scales", DType::kF16, {1, rows}, scales(rows)),
          stored(module + ".g_idx", DType::kI32, {cols}, order)};
}

std::vector<Stored> packed(const std::string& module, int64_t rows, int64_t cols) {
  const auto codes =
      each<uint8_t>(rows * cols, [&](int64_t i) { return code_of(i / cols, i % cols); });
  return {stored(module + ".weight_packed", DType::kI32, {rows, cols / 8}, pack_bits(codes, 4)),
          stored(module + ".weight_scale", DType::kF16, {rows, 1}, scales(rows)),
          stored<int64_t>(module + ".weight_shape", DType::kI64, {2}, {rows, cols})};
}

std::vector<Stored> int8(const std::string& module, int64_t rows, int64_t cols) {
  const auto codes = each<int8_t>(
      rows * cols, [&](int64_t i) { return static_cast<int8_t>(code_of(i / cols, i % cols) - 8); });
  return {stored(module + ".weight", DType::kI8, {rows, cols}, codes),
          stored(module + ".weight_scale", DType::kF16, {rows, 1}, scales(rows))};
}

// Whole numbers up to 8 are e4m3 numbers too.
std::vector<Stored> fp8(const std::string& module, int64_t rows, int64_t cols) {
  const auto codes = each<uint8_t>(rows * cols, [&](int64_t i) {
    return to_f8e4m3(static_cast<float>(code_of(i / cols, i % cols) - 8)).bits;
  });
  const auto f32 = each<float>(rows, scale_of);
  return {stored(module + ".weight", DType::kF8E4M3, {rows, cols}, codes),
          stored(module + ".weight_scale", DType::kF32, {rows, 1}, f32)};
}

struct Format {
  const char* config;
  Packer pack;
};

std::string compressed(const char* format, const char* weights) {
  return fmt::format(
      R"({{"quant_method": "compressed-tensors", "format": "{}", "ignore": ["lm_head"],
    "config_groups": {{"group_0": {{"targets": ["Linear"], "weights": {}}}}}}})",
      format, weights);
}

const std::string kPackedConfig =
    compressed("pack-quantized", R"({"num_bits": 4, "type": "int", "strategy": "channel"})");
const std::string kInt8Config =
    compressed("int-quantized", R"({"num_bits": 8, "type": "int", "strategy": "channel"})");
const std::string kFloatConfig =
    compressed("float-quantized", R"({"num_bits": 8, "type": "float", "strategy": "channel"})");
const std::vector<Format> kFormats{
    {R"({"quant_method": "awq", "bits": 4, "group_size": -1, "zero_point": true})", awq},
    {R"({"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": true})", gptq},
    {kPackedConfig.c_str(), packed},
    {kInt8Config.c_str(), int8},
    {kFloatConfig.c_str(), fp8},
    {R"({"quant_method": "fp8", "activation_scheme": "dynamic"})", fp8},
};

class CommunityFolder : public testing::Test {
 protected:
  static bool quantised(const ExpectedTensor& t) {
    return t.kind == TensorKind::kLinear && t.name != "lm_head.weight";
  }

  Tensors tensors(const Packer& pack) const {
    Tensors all;
    const auto golden = Checkpoint::open(kMoe);
    for (const ExpectedTensor& t : expected_tensors(golden->config())) {
      std::vector<Stored> parts{stored(t.name, DType::kF32, t.pt_shape(), rows_of(*golden, t))};
      if (quantised(t)) parts = pack(t.name.substr(0, t.name.size() - 7), t.rows, t.cols);
      for (Stored& part : parts) all[part.info.name] = part;
    }
    return all;
  }

  std::unique_ptr<Checkpoint> open(const Tensors& all, const char* quantization) const {
    fs::create_directories(folder_.path());
    Json json = parse_json(read_file(kMoe / "config.json"), "config.json");
    json["quantization_config"] = Json::parse(quantization);
    write_file(folder_ / "config.json", json.dump());
    std::vector<TensorInfo> infos;
    for (const auto& [name, tensor] : all) infos.push_back(tensor.info);
    SafetensorsWriter writer(folder_ / "model.safetensors", infos);
    for (const auto& [name, tensor] : all)
      writer.write(std::as_bytes(std::span(tensor.bytes)).data(), tensor.bytes.size());
    writer.commit();
    return Checkpoint::open(folder_.path());
  }

  std::string refusal(const Tensors& all, const char* quantization) const {
    try {
      open(all, quantization);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  TemporaryFolder folder_;
};

TEST_F(CommunityFolder, EveryFormatGivesTheSameWeights) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.config);
    const auto checkpoint = open(tensors(format.pack), format.config);
    for (const ExpectedTensor& t : expected_tensors(checkpoint->config())) {
      const auto codes = checkpoint->codes(t.name);
      ASSERT_EQ(codes != nullptr, quantised(t)) << t.name;
      if (codes == nullptr) continue;
      std::vector<float> row(static_cast<size_t>(t.cols));
      for (int64_t n = 0; n < t.rows; ++n) {
        dequantize_row(*codes, n, row.data());
        ASSERT_EQ(row, each<float>(t.cols, [&](int64_t k) { return value_of(n, k); })) << t.name;
      }
    }
  }
}

TEST_F(CommunityFolder, RefusesWhatContradictsItself) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.config);
    Tensors all = tensors(format.pack);
    for (const char* scale : {".scales", ".weight_scale"}) all.erase(std::string(kQ) + scale);
    EXPECT_THAT(refusal(all, format.config), HasSubstr(std::string(kQ) + "."));
    all = tensors(format.pack);
    for (auto& [name, tensor] : all) {
      if (name.starts_with(kQ) && tensor.info.shape.size() == 2)
        std::swap(tensor.info.shape[0], tensor.info.shape[1]);
    }
    EXPECT_THAT(refusal(all, format.config), HasSubstr(kQ));
  }
  Tensors all = tensors(gptq);
  all.erase(std::string(kQ) + ".qzeros");
  EXPECT_THAT(refusal(all, kFormats[1].config), HasSubstr("q_proj.qzeros' is missing"));
  const char* grouped = R"({"quant_method": "gptq", "bits": 4, "group_size": 32})";
  EXPECT_THAT(refusal(tensors(gptq), grouped), HasSubstr("q_proj.qzeros"));
}

}  // namespace
}  // namespace erne
