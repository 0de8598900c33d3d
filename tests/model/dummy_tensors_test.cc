// Made-up weights: shapes of the config alone, the wanted scale, equal for equal seeds, and a model
// that runs in every precision.
#include "model/dummy_tensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "cpu/cpu_device.h"
#include "model/checkpoint.h"
#include "model/golden_cases.h"
#include "model/layout.h"
#include "model/sequence_runner.h"
#include "model/text_model.h"
#include "model/text_weights.h"
#include "support/temporary_folder.h"

namespace erne {
namespace {

std::vector<float> values(const MatrixView& view) {
  std::vector<float> all(static_cast<size_t>(view.rows * view.cols));
  for (int64_t r = 0; r < view.rows; ++r) read_row_f32(view, r, all.data() + r * view.cols);
  return all;
}

/// A folder with the config of a golden and nothing else.
class DummyModel : public testing::TestWithParam<const char*> {
 protected:
  DummyModel() {
    std::filesystem::copy(kCases / GetParam() / "config.json", folder_.path() / "config.json");
  }
  testing_support::TemporaryFolder folder_;
};

TEST_P(DummyModel, HaveTheShapesAndTheScaleOfTheConfig) {
  const auto dummy = Checkpoint::dummy(folder_.path());
  EXPECT_FALSE(dummy->is_mapped());
  for (const ExpectedTensor& t : expected_tensors(dummy->config())) {
    ASSERT_TRUE(dummy->has(t.name)) << t.name;
    const std::vector<float> v = values(dummy->matrix(t.name, t.rows, t.cols));
    double sum = 0;
    double squares = 0;
    for (const float x : v) {
      sum += x;
      squares += double{x} * x;
    }
    const auto n = static_cast<double>(v.size());
    if (t.name.ends_with("norm.weight")) {
      EXPECT_EQ(std::set(v.begin(), v.end()), std::set{1.0F}) << t.name;
    } else if (t.rows == 1) {
      EXPECT_EQ(std::set(v.begin(), v.end()), std::set{0.0F}) << t.name;
    } else {
      // 5 standard errors of mean and deviation around initializer_range.
      EXPECT_NEAR(sum / n, 0, 5 * 0.02 / std::sqrt(n)) << t.name;
      EXPECT_NEAR(std::sqrt(squares / n), 0.02, 5 * 0.02 / std::sqrt(2 * n)) << t.name;
    }
  }
}

std::vector<float> logits(const Checkpoint& source, const LoadOptions& load) {
  const auto device = make_cpu_device(1, "generic");
  const auto model = TextModel::load(Checkpoint::dummy(source.folder()), *device, load);
  EXPECT_EQ(model->weight_bytes(), packed_weight_bytes(source, *device, load));
  const std::vector<int32_t> ids = {5, 9, 44, 3};
  SequenceRunner runner(*model, *device, 16);
  const int64_t capacity = 4;
  runner.begin({&capacity, 1}, 4, 4);
  const SequenceRunner::Piece piece{0, ids, 4};
  const Tensor out = runner.step({&piece, 1});
  return {out.ptr<float>(), out.ptr<float>() + out.elements()};
}

TEST_P(DummyModel, RunInEveryPrecisionAndAlwaysAlike) {
  const auto dummy = Checkpoint::dummy(folder_.path());
  for (const char* scheme : {"none", "wint8", "wint4", "fp8_block", "wint4:g32:min"}) {
    LoadOptions load{DType::kBF16, false};
    load.quantization = QuantizationPlan::parse(scheme, "");
    const std::vector<float> out = logits(*dummy, load);
    for (const float x : out) ASSERT_TRUE(std::isfinite(x)) << scheme;
    EXPECT_GT(std::set(out.begin(), out.end()).size(), 30U) << scheme;
    EXPECT_EQ(out, logits(*dummy, load)) << scheme;
  }
}

INSTANTIATE_TEST_SUITE_P(Configs, DummyModel,
                         testing::Values("dense-tied", "dense-bias", "moe", "moe-sharded"),
                         [](const auto& with) {
                           std::string name = with.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(DummyTensorsOfLargeModels, TakeAPoolAndNoMore) {
  TextConfig config;
  config.num_layers = 2;
  config.hidden_size = 2560;
  config.num_heads = 20;
  config.kv_heads = 4;
  config.head_dim = 128;
  config.intermediate_size = 12288;
  config.vocab_size = 103424;
  const auto dummy = make_dummy_tensors(config, 0.02, 1);
  EXPECT_LE(dummy.pool.size(), size_t{33} << 20);
  const MatrixView& table = dummy.views.at("model.embed_tokens.weight");
  const auto* begin = dummy.pool.as<uint8_t>();
  const auto* last = static_cast<const uint8_t*>(table.data) +
                     ((table.rows - 1) * table.row_stride + table.cols) * 2;
  EXPECT_GE(static_cast<const uint8_t*>(table.data), begin);
  EXPECT_LE(last, begin + dummy.pool.size());
  std::vector<float> a(2560), b(2560);
  read_row_f32(table, 100, a.data());
  read_row_f32(table, 101, b.data());
  EXPECT_NE(a, b);
  const MatrixView& q = dummy.views.at("model.layers.0.self_attn.q_proj.weight");
  const MatrixView& q1 = dummy.views.at("model.layers.1.self_attn.q_proj.weight");
  EXPECT_EQ(q.row_stride, 2560) << "small ones do not overlap";
  EXPECT_NE(q.data, q1.data);
  EXPECT_NE(
      values(
          make_dummy_tensors(config, 0.02, 2).views.at("model.layers.0.self_attn.k_proj.weight")),
      values(dummy.views.at("model.layers.0.self_attn.k_proj.weight")));
}

TEST(DummyTensorsRefuse, QuantisedConfigsAndBadRanges) {
  testing_support::TemporaryFolder folder;
  const std::string golden = read_file(kCases / "dense-tied" / "config.json");
  const auto refused = [&](const std::string& extra, const char* word) {
    std::ofstream(folder.path() / "config.json")
        << "{" << extra << golden.substr(golden.find('{') + 1);
    try {
      Checkpoint::dummy(folder.path());
      ADD_FAILURE() << extra;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInvalidArgument);
      EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
    }
  };
  refused(
      R"("quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},)",
      "quantization_config");
}

}  // namespace
}  // namespace erne
