// Quantised folders in Paddle's layout, made from a golden: fused linears read back as the parts
// that were rounded, in every form the specification lays out, and lies are refused.
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
#include "base/thread_pool.h"
#include "model/checkpoint.h"
#include "model/layout.h"
#include "model/quantized_tensors.h"
#include "quant/ccq.h"
#include "quant/fp8.h"
#include "quant/packing.h"
#include "quant/round_to_nearest.h"
#include "support/temporary_folder.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing_support::TemporaryFolder;

const fs::path kMoe = fs::path(ERNE_TESTS_DIR) / "goldens/text/moe";
const std::string kQkv = "layers.1.self_attn.qkv_proj";
const std::string kUpGate = "layers.1.mlp.experts.3.up_gate_proj";

struct Stored {
  TensorInfo info;
  std::string bytes;
};

template <typename T>
Stored stored(const std::string& name, DType dtype, std::vector<int64_t> shape,
              const std::vector<T>& values) {
  return {{name, dtype, std::move(shape)},
          {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)}};
}

// The parts of a fused linear, stacked.
struct Fused {
  std::string module;  // behind "ernie."
  std::vector<std::string> parts;
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> numbers;

  MatrixView view() const { return {numbers.data(), DType::kF32, rows, cols, cols, 1}; }
};

Fused fuse(const std::string& module) {
  Fused fused{module, {}, 0, 0, {}};
  const bool qkv = module == kQkv;
  const std::string stem = "model." + module.substr(0, module.rfind('.') + 1);
  const auto checkpoint = Checkpoint::open(kMoe);
  for (const char* part : qkv ? std::vector<const char*>{"q_proj", "k_proj", "v_proj"}
                              : std::vector<const char*>{"gate_proj", "up_proj"}) {
    fused.parts.push_back(stem + part + ".weight");
    for (const ExpectedTensor& tensor : expected_tensors(checkpoint->config())) {
      if (tensor.name != fused.parts.back()) continue;
      const MatrixView view = checkpoint->matrix(tensor.name, tensor.rows, tensor.cols);
      fused.cols = tensor.cols;
      fused.rows += tensor.rows;
      for (int64_t r = 0; r < tensor.rows; ++r) {
        fused.numbers.resize(fused.numbers.size() + static_cast<size_t>(tensor.cols));
        read_row_f32(view, r, fused.numbers.data() + fused.numbers.size() - tensor.cols);
      }
    }
  }
  return fused;
}

struct AllRows {
  std::vector<int8_t> codes;
  std::vector<float> scales;
};

AllRows read_all(const CodeRows& rows) {
  const int64_t groups = rows.format().groups(rows.cols());
  AllRows all{std::vector<int8_t>(static_cast<size_t>(rows.rows() * rows.cols())),
              std::vector<float>(static_cast<size_t>(rows.rows() * groups))};
  for (int64_t r = 0; r < rows.rows(); ++r)
    rows.read(r, all.codes.data() + r * rows.cols(), all.scales.data() + r * groups, nullptr);
  return all;
}

// A form: its rows, and the tensors they become.
struct Form {
  const char* config;
  std::function<std::unique_ptr<CodeRows>(const Fused&)> rows;
  std::function<std::vector<Stored>(const Fused&, const CodeRows&)> tensors;
  std::vector<std::string> modules;
};

std::string part(const Fused& f, const char* suffix) { return "ernie." + f.module + suffix; }

Form integers(int bits) {
  const CodeType type = bits == 8 ? CodeType::kInt8 : CodeType::kInt4;
  return {bits == 8 ? R"({"quantization": "wint8"})"
                    : R"({"quantization": "mix_quant", "dense_quant_type": "wint8",
                          "moe_quant_type": "wint4", "is_quantized": true})",
          [=](const Fused& f) {
            return round_to_nearest(f.view(), {type, 0});
          },
          [=](const Fused& f, const CodeRows& rows) -> std::vector<Stored> {
            const AllRows all = read_all(rows);
            std::vector<bf16> scales;
            for (const float s : all.scales) scales.push_back(to_bf16(s));
            return {stored(part(f, ".quant_weight"), DType::kI8,
                           {bits == 8 ? f.rows : f.rows / 2, f.cols},
                           paddle_sm80_pack(all.codes, f.rows, f.cols, bits)),
                    stored(part(f, ".weight_scale"), DType::kBF16, {f.rows}, scales)};
          },
          {kQkv, kUpGate}};
}

Form fp8(const char* config, const std::function<std::unique_ptr<CodeRows>(const Fused&)>& rows,
         const std::function<std::vector<float>(const Fused&, const AllRows&)>& scales,
         const std::vector<int64_t>& shape) {
  return {config,
          rows,
          [=](const Fused& f, const CodeRows& coded) -> std::vector<Stored> {
            const AllRows all = read_all(coded);
            return {
                stored(part(f, ".quant_weight"), DType::kF8E4M3, {f.rows, f.cols}, all.codes),
                stored(part(f, ".weight_scale"), DType::kF32, shape, scales(f, all)),
                stored(part(f, ".activation_scale"), DType::kF32, {1}, std::vector<float>{0.02F})};
          },
          {kUpGate}};
}

Form two_bits(CodeType type) {
  return {R"({"quantization": "wint2", "moe_w2": {"type": "wint2"}})",
          [=](const Fused& f) { return ccq_rows(f.view(), type); },
          [=](const Fused& f, const CodeRows& rows) -> std::vector<Stored> {
            const auto n = static_cast<size_t>(f.rows);
            std::vector<std::vector<uint8_t>> bytes;
            std::vector<bf16> super;
            std::vector<float> scale, zp;
            for (int64_t r = 0; r < f.rows; ++r) {
              bytes.emplace_back(static_cast<size_t>(ccq_row_bytes(type, f.cols)));
              const CcqConstants c = rows.read_ccq(r, bytes.back().data());
              super.push_back(to_bf16(c.super));
              scale.push_back(c.code_scale);
              zp.push_back(c.code_zp);
            }
            const size_t size = type == CodeType::kCcq25 ? 2 : 1;
            const size_t count = bytes[0].size() / size;
            std::vector<uint8_t> turned(bytes[0].size() * n);
            for (size_t i = 0; i < count; ++i) {
              for (size_t r = 0; r < n; ++r)
                std::memcpy(&turned[(i * n + r) * size], &bytes[r][i * size], size);
            }
            const auto rows64 = static_cast<int64_t>(f.rows);
            if (type == CodeType::kCcq25)
              return {stored(part(f, ".quant_weight"), DType::kU16,
                             {static_cast<int64_t>(count), rows64}, turned),
                      stored(part(f, ".super_scales"), DType::kBF16, {rows64}, super)};
            const auto codes = static_cast<size_t>(f.cols / 4) * n;
            const std::vector<uint8_t> local(turned.begin() + static_cast<ptrdiff_t>(codes),
                                             turned.end());
            turned.resize(codes);
            return {stored(part(f, ".quant_weight"), DType::kU8, {f.cols / 4, rows64}, turned),
                    stored(part(f, ".weight_scale"), DType::kU8,
                           {static_cast<int64_t>(local.size() / n), rows64}, local),
                    stored(part(f, ".super_scales"), DType::kBF16, {rows64}, super),
                    stored(part(f, ".code_scale"), DType::kF32, {rows64}, scale),
                    stored(part(f, ".code_zp"), DType::kF32, {rows64}, zp)};
          },
          {kUpGate}};
}

std::vector<Form> forms() {
  return {
      integers(8),
      integers(4),
      fp8(R"({"quantization": "block_wise_fp8", "weight_block_size": [128, 128]})",
          [](const Fused& f) { return fp8_rows(f.view(), Fp8Scaling::kBlock); },
          [](const Fused&, const AllRows& all) { return std::vector<float>{all.scales[0]}; },
          {1, 1}),
      fp8(R"({"quantization": "mix_quant", "dense_quant_type": "tensor_wise_fp8",
                  "moe_quant_type": "tensor_wise_fp8", "is_quantized": true})",
          [](const Fused& f) { return fp8_rotated_rows(f.view(), 32); },
          [](const Fused&, const AllRows& all) { return std::vector<float>{all.scales[0]}; }, {1}),
      fp8(R"({"quantization": {"quantization": "wfp8afp8"}})",
          [](const Fused& f) { return fp8_rows(f.view(), Fp8Scaling::kRow); },
          [](const Fused&, const AllRows& all) { return all.scales; }, {96}),
      two_bits(CodeType::kCcq25),
      two_bits(CodeType::kCcq2)};
}

// The golden's folder with these tensors instead of the parts.
void write_folder(const fs::path& folder, const std::string& config,
                  const std::vector<Fused>& modules, const std::vector<Stored>& tensors) {
  fs::create_directories(folder);
  Json json = parse_json(read_file(kMoe / "config.json"), "config.json");
  json["quantization_config"] = parse_json(config, "quantization_config");
  write_file(folder / "config.json", json.dump());
  const SafetensorsFile file = SafetensorsFile::open(kMoe / "model.safetensors");
  std::map<std::string, Stored> all;
  for (const StoredTensor& tensor : file.tensors())
    all[tensor.info.name] = {tensor.info,
                             {reinterpret_cast<const char*>(tensor.data), tensor.bytes}};
  for (const Fused& fused : modules) {
    for (const std::string& name : fused.parts) all.erase(name);
  }
  for (const Stored& s : tensors) all[s.info.name] = s;
  std::vector<TensorInfo> infos;
  for (const auto& [name, s] : all) infos.push_back(s.info);
  SafetensorsWriter writer(folder / "model.safetensors", infos);
  for (const auto& [name, s] : all) writer.write(s.bytes.data(), s.bytes.size());
  writer.commit();
}

TEST(Paddle, FusedLinearsAreReadAsTheirParts) {
  for (const Form& form : forms()) {
    SCOPED_TRACE(form.config);
    TemporaryFolder folder;
    std::vector<Fused> modules;
    std::vector<Stored> tensors;
    for (const std::string& name : form.modules) {
      modules.push_back(fuse(name));
      const auto rows = form.rows(modules.back());
      for (Stored& s : form.tensors(modules.back(), *rows)) tensors.push_back(std::move(s));
    }
    write_folder(folder / "p", form.config, modules, tensors);
    const auto checkpoint = Checkpoint::open(folder / "p");
    for (const Fused& fused : modules) {
      const auto all = form.rows(fused);
      std::vector<float> expected(static_cast<size_t>(fused.cols));
      std::vector<float> row(expected.size());
      int64_t first = 0;
      for (const std::string& name : fused.parts) {
        const auto codes = checkpoint->codes(name);
        ASSERT_NE(codes, nullptr) << name;
        EXPECT_EQ(codes->format().rotation, all->format().rotation);
        for (int64_t r = 0; r < codes->rows(); ++r) {
          dequantize_row(*codes, r, row.data());
          dequantize_row(*all, first + r, expected.data());
          ASSERT_EQ(row, expected) << name << " row " << r;
        }
        first += codes->rows();
      }
      EXPECT_EQ(first, fused.rows);
    }
  }
}

TEST(Paddle, RefusesLies) {
  const Form form = integers(8);
  const Fused fused = fuse(kUpGate);
  const std::vector<Stored> good = form.tensors(fused, *form.rows(fused));
  const auto error = [&](const std::string& config, const std::vector<Stored>& tensors) {
    TemporaryFolder folder;
    write_folder(folder / "p", config, {fused}, tensors);
    try {
      Checkpoint::open(folder / "p");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(error(form.config, good), "no error");
  std::vector<Stored> bad = good;
  bad.pop_back();
  EXPECT_THAT(error(form.config, bad), AllOf(HasSubstr("weight_scale"), HasSubstr("missing")));
  bad = good;
  bad[0].info.shape = {fused.rows * fused.cols};
  EXPECT_THAT(error(form.config, bad), HasSubstr("quant_weight"));
  bad = good;
  bad[1] = stored(bad[1].info.name, DType::kF32, {3}, std::vector<float>(3));
  EXPECT_THAT(error(form.config, bad), HasSubstr("[3]"));
  bad = good;
  bad.push_back(stored("ernie.layers.77.mlp.down_proj.quant_weight", DType::kI8, {4},
                       std::vector<int8_t>(4)));
  EXPECT_THAT(error(form.config, bad), HasSubstr("no place"));
  bad = good;
  for (Stored s : good) {  // the gate alone, too
    s.info.name =
        "model.layers.1.mlp.experts.3.gate_proj" + s.info.name.substr(s.info.name.rfind('.'));
    s.info.shape[0] /= 2;
    s.bytes.resize(s.bytes.size() / 2);
    bad.push_back(s);
  }
  EXPECT_THAT(error(form.config, bad), HasSubstr("twice"));
  EXPECT_THAT(error(R"({"quantization": "mix_quant", "dense_quant_type": "wint8",
                        "moe_quant_type": "w4a8", "is_permuted": true})",
                    good),
              HasSubstr("w4a8"));
  EXPECT_THAT(error(R"({"quantization": "w4afp8"})", good),
              AllOf(HasSubstr("w4afp8"), HasSubstr("block_wise_fp8")));
  EXPECT_THAT(error(R"({"quantization": "wint8", "kv_cache_quant_type": "int4_zp"})", good),
              HasSubstr("int4_zp"));
}

}  // namespace
}  // namespace erne
