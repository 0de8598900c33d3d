// Folders of other projects, made from one golden: the same 4-bit codes in every packing.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/checkpoint.h"
#include "model/golden_gguf.h"
#include "quant/packing.h"
#include "support/temporary_folder.h"
#include "tensor/safetensors.h"

namespace erne::testing_support {

inline const std::filesystem::path kMoe =
    std::filesystem::path(ERNE_TESTS_DIR) / "goldens/text/moe";
inline constexpr const char* kQ = "model.layers.0.self_attn.q_proj";

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
inline uint8_t code_of(int64_t n, int64_t k) {
  return static_cast<uint8_t>((n * 7 + k * 3 + n * k) % 16);
}
inline float scale_of(int64_t n) { return 0.0078125F * static_cast<float>(1 + n % 4); }
inline float value_of(int64_t n, int64_t k) {
  return static_cast<float>(code_of(n, k) - 8) * scale_of(n);
}

template <typename T>
std::vector<T> each(int64_t count, const std::function<T(int64_t)>& at) {
  std::vector<T> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(at(i));
  return values;
}

inline std::vector<f16> scales(int64_t rows) {
  return each<f16>(rows, [](int64_t n) { return to_f16(scale_of(n)); });
}

using Packer = std::function<std::vector<Stored>(const std::string& module, int64_t n, int64_t k)>;

inline std::vector<Stored> awq(const std::string& module, int64_t rows, int64_t cols) {
  std::vector<uint8_t> codes;
  for (int64_t k = 0; k < cols; ++k) {
    for (int64_t n = 0; n < rows; ++n) codes.push_back(code_of(n, k));
  }
  const std::vector<uint8_t> zeros(static_cast<size_t>(rows), 8);
  return {stored(module + ".qweight", DType::kI32, {cols, rows / 8}, awq_pack(codes)),
          stored(module + ".qzeros", DType::kI32, {1, rows / 8}, awq_pack(zeros)),
          stored(module + ".scales", DType::kF16, {1, rows}, scales(rows))};
}

inline std::vector<Stored> gptq(const std::string& module, int64_t rows, int64_t cols) {
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

// Groups of 32 scattered over the inputs, as desc_act leaves them: their scales are all one.
inline std::vector<Stored> gptq_by_activity(const std::string& module, int64_t rows, int64_t cols) {
  std::vector<Stored> parts = gptq(module, rows, cols);
  const int64_t groups = (cols + 31) / 32;
  const std::vector<uint8_t> zeros(static_cast<size_t>(groups * rows), 7);
  parts[1] = stored(module + ".qzeros", DType::kI32, {groups, rows / 8}, pack_bits(zeros, 4));
  parts[2] =
      stored(module + ".scales", DType::kF16, {groups, rows},
             each<f16>(groups * rows, [&](int64_t i) { return to_f16(scale_of(i % rows)); }));
  parts[3] = stored(module + ".g_idx", DType::kI32, {cols}, each<int32_t>(cols, [&](int64_t k) {
                      return static_cast<int32_t>(k * 5 % cols / 32);
                    }));
  return parts;
}

inline std::vector<Stored> packed(const std::string& module, int64_t rows, int64_t cols) {
  const auto codes =
      each<uint8_t>(rows * cols, [&](int64_t i) { return code_of(i / cols, i % cols); });
  return {stored(module + ".weight_packed", DType::kI32, {rows, cols / 8}, pack_bits(codes, 4)),
          stored(module + ".weight_scale", DType::kF16, {rows, 1}, scales(rows)),
          stored<int64_t>(module + ".weight_shape", DType::kI64, {2}, {rows, cols})};
}

inline std::vector<Stored> int8(const std::string& module, int64_t rows, int64_t cols) {
  const auto codes = each<int8_t>(
      rows * cols, [&](int64_t i) { return static_cast<int8_t>(code_of(i / cols, i % cols) - 8); });
  return {stored(module + ".weight", DType::kI8, {rows, cols}, codes),
          stored(module + ".weight_scale", DType::kF16, {rows, 1}, scales(rows))};
}

// Whole numbers up to 8 are e4m3 numbers too.
inline std::vector<Stored> fp8(const std::string& module, int64_t rows, int64_t cols) {
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

inline std::string compressed(const char* format, const char* weights) {
  return fmt::format(
      R"({{"quant_method": "compressed-tensors", "format": "{}", "ignore": ["lm_head"],
    "config_groups": {{"group_0": {{"targets": ["Linear"], "weights": {}}}}}}})",
      format, weights);
}

inline const std::string kPackedConfig =
    compressed("pack-quantized", R"({"num_bits": 4, "type": "int", "strategy": "channel"})");
inline const std::string kInt8Config =
    compressed("int-quantized", R"({"num_bits": 8, "type": "int", "strategy": "channel"})");
inline const std::string kFloatConfig =
    compressed("float-quantized", R"({"num_bits": 8, "type": "float", "strategy": "channel"})");
inline const std::vector<Format> kFormats{
    {R"({"quant_method": "awq", "bits": 4, "group_size": -1, "zero_point": true})", awq},
    {R"({"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": true})", gptq},
    {R"({"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": true})",
     gptq_by_activity},
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
    std::filesystem::create_directories(folder_.path());
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

}  // namespace erne::testing_support
