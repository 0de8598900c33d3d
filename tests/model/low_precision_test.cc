// The goldens at the lowest precisions: how far from float32 they are, static scales of the KV
// cache, and folders in Paddle's layout.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/kv_scales.h"
#include "model/model_runner.h"
#include "model/quantize.h"
#include "quant/kv_codes.h"
#include "support/temporary_folder.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing_support::kGoldens;
using testing_support::Runner;
using testing_support::TemporaryFolder;

// Mean Kullback-Leibler divergence of the rows' distributions, in nats.
double divergence(const std::vector<float>& exact, const std::vector<float>& other, size_t vocab) {
  double sum = 0;
  for (size_t row = 0; row < exact.size(); row += vocab) {
    const auto log_sum = [&](const std::vector<float>& x) {
      double total = 0;
      for (size_t i = row; i < row + vocab; ++i) total += std::exp(double{x[i]});
      return std::log(total);
    };
    const double a = log_sum(exact);
    const double b = log_sum(other);
    for (size_t i = row; i < row + vocab; ++i) {
      const double p = exact[i] - a;
      sum += std::exp(p) * (p - (other[i] - b));
    }
  }
  return sum / static_cast<double>(exact.size() / vocab);
}

struct Case {
  const char* golden;
  const char* scheme;
  const char* mixed;
  double bound;  ///< about 1.5 times what it was when this was written
};

class LowPrecision : public testing::TestWithParam<Case> {};

TEST_P(LowPrecision, StaysCloseToFloat32) {
  const auto [golden, scheme, mixed, bound] = GetParam();
  const Runner exact(kGoldens / golden, golden, {DType::kF32, false});
  const auto vocab = static_cast<size_t>(exact.model().config().vocab_size);
  const Runner coarse(kGoldens / golden, golden,
                      {DType::kF32, false, QuantizationPlan::parse(scheme, mixed)});
  const double kl = divergence(exact.logits(1000), coarse.logits(1000), vocab);
  RecordProperty("kl", std::to_string(kl));
  EXPECT_LT(kl, bound);
  EXPECT_GT(kl, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Schemes, LowPrecision,
    testing::Values(Case{"dense-bias", "w8a8", "", 8e-4}, Case{"dense-bias", "w4a8", "", 0.1},
                    Case{"dense-bias", "w4a8:r1", "", 0.09},
                    Case{"dense-bias", "wint2.5", "mlp=wint2.5", 0.33},
                    Case{"dense-bias", "wint2", "mlp=wint2", 0.3}, Case{"moe", "w4a8", "", 0.35},
                    Case{"moe", "wint2.5", "experts=wint2.5", 2.5},
                    Case{"moe", "wint2", "experts=wint2", 2.1},
                    Case{"dense-tied", "fp8_tensor:r32", "", 0.085}),
    [](const testing::TestParamInfo<Case>& test) {
      std::string name = std::string(test.param.golden) + "_" + test.param.scheme;
      for (char& c : name) {
        if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
      }
      return name;
    });

// --- static scales of the KV cache

// A golden's folder with tensors changed or added.
struct Stored {
  TensorInfo info;
  std::string bytes;
};

Stored floats(const std::string& name, const std::vector<int64_t>& shape, float value) {
  const TensorInfo info{name, DType::kF32, shape};
  const std::vector<float> values(info.bytes() / sizeof(float), value);
  return {info, {reinterpret_cast<const char*>(values.data()), info.bytes()}};
}

void write_folder(const fs::path& folder, const char* golden, const std::vector<Stored>& extra) {
  fs::create_directories(folder);
  fs::copy_file(kGoldens / golden / "config.json", folder / "config.json");
  const SafetensorsFile file = SafetensorsFile::open(kGoldens / golden / "model.safetensors");
  std::vector<TensorInfo> infos;
  for (const StoredTensor& tensor : file.tensors()) infos.push_back(tensor.info);
  for (const Stored& stored : extra) infos.push_back(stored.info);
  SafetensorsWriter writer(folder / "model.safetensors", infos);
  for (const StoredTensor& tensor : file.tensors()) writer.write(tensor.data, tensor.bytes);
  for (const Stored& stored : extra) writer.write(stored.bytes.data(), stored.bytes.size());
  writer.commit();
}

std::string scale_name(int layer, char which, const char* prefix = "model") {
  return fmt::format("{}.layers.{}.self_attn.cache{}_matmul.activation_scale", prefix, layer,
                     which);
}

// dense-bias: two layers, one kv head of 32.
std::vector<Stored> scales(float keys, float values) {
  return {floats(scale_name(0, 'k'), {32}, keys), floats(scale_name(0, 'v'), {1, 32}, values),
          floats(scale_name(1, 'k', "ernie"), {1}, keys), floats(scale_name(1, 'v'), {1}, values)};
}

TEST(StaticKv, IsUsedAndCloseToFullPrecision) {
  TemporaryFolder folder;
  write_folder(folder / "kv", "dense-bias", scales(6, 4));
  const Runner exact(kGoldens / "dense-bias", "dense-bias", {DType::kF32, false});
  const auto vocab = static_cast<size_t>(exact.model().config().vocab_size);
  const std::vector<float> expected = exact.logits(1000);
  for (const auto cache :
       {std::optional<DType>(), std::optional(DType::kI8), std::optional(DType::kF8E4M3)}) {
    LoadOptions options{DType::kF32, false};
    options.cache_dtype = cache;
    const Runner fixed(folder / "kv", "dense-bias", options);
    const KvCacheSpec spec = fixed.model().kv_spec(16);
    EXPECT_TRUE(spec.fixed_scales);
    EXPECT_EQ(spec.dtype, cache.value_or(DType::kI8));
    const std::vector<float> whole = fixed.logits(1000);
    const double kl = divergence(expected, whole, vocab);
    EXPECT_GT(kl, 0);
    EXPECT_LT(kl, 1e-3);
    EXPECT_EQ(fixed.logits(7), whole);
    // Other scales are other logits: they are not left aside.
    TemporaryFolder other;
    write_folder(other / "kv", "dense-bias", scales(0.1F, 4));
    EXPECT_NE(Runner(other / "kv", "dense-bias", options).logits(1000), whole);
  }
  LoadOptions wide{DType::kF32, false};
  wide.cache_dtype = DType::kF32;
  const Runner without(folder / "kv", "dense-bias", wide);
  EXPECT_FALSE(without.model().kv_spec(16).fixed_scales);
  EXPECT_EQ(without.logits(1000), expected);
}

TEST(StaticKv, RefusesScalesThatLie) {
  const auto error = [](const std::vector<Stored>& extra) -> std::string {
    TemporaryFolder folder;
    write_folder(folder / "kv", "dense-bias", extra);
    try {
      Checkpoint::open(folder / "kv");
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(error(scales(1, 1)), "no error");
  std::vector<Stored> s = scales(1, 1);
  s.pop_back();
  EXPECT_THAT(error(s), AllOf(HasSubstr("values of layer 1"), HasSubstr("model.safetensors")));
  s = scales(1, 1);
  s[0] = floats(scale_name(0, 'k'), {31}, 1);
  EXPECT_THAT(error(s), AllOf(HasSubstr("[31]"), HasSubstr("32 channels")));
  s[0] = floats(scale_name(7, 'k'), {32}, 1);
  EXPECT_THAT(error(s), HasSubstr("no place"));
  for (const float bad : {-1.0F, NAN, INFINITY, 1e-30F}) {
    s[0] = floats(scale_name(0, 'k'), {32}, bad);
    EXPECT_THAT(error(s), AllOf(HasSubstr(scale_name(0, 'k')), HasSubstr("2^-60"))) << bad;
  }
  s[0] = {{scale_name(0, 'k'), DType::kI8, {32}}, std::string(32, '\1')};
  EXPECT_THAT(error(s), HasSubstr("int8"));
  s = scales(1, 1);
  s.push_back(floats("model.layers.0.self_attn.cachek_matmul.activation_zero_point", {32}, 1));
  EXPECT_THAT(error(s), HasSubstr("zero point"));
  s = scales(1, 1);
  s.push_back(floats(scale_name(0, 'k', "ernie"), {32}, 1));
  EXPECT_THAT(error(s), HasSubstr("twice"));
}

}  // namespace
}  // namespace erne
