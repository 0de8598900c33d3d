// The decoder against the reference implementation's goldens: every case, chunk size, batch, thread
// count and instruction set; and batch invariance, bit for bit.
#include "model/text_model.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <numeric>
#include <string>

#include "base/error.h"
#include "cpu/cpu_device.h"
#include "golden_cases.h"
#include "model/checkpoint.h"
#include "model/verify.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

struct Loaded {
  Loaded(const std::string& name, DType dtype, int threads, const std::string& isa = "")
      : device(make_cpu_device(threads, isa)),
        checkpoint(Checkpoint::open(kCases / name)),
        golden(read_golden(kCases / name / "golden.safetensors", checkpoint->config())),
        model(TextModel::load(checkpoint, *device, {dtype, false})) {}

  void expect_pass(const VerifyOptions& options) const {
    const VerifyReport report = verify(*model, *device, golden, options);
    for (const std::string& bound : report.broken) ADD_FAILURE() << bound;
    ASSERT_EQ(report.sequences.size(), 4U);
    for (const SequenceReport& r : report.sequences) {
      EXPECT_TRUE(r.has_logits);
      EXPECT_EQ(r.greedy_tokens, 24);
      const bool exact = model->dtype() == DType::kF32;
      EXPECT_TRUE(!exact || r.hidden_error <= 5e-6) << r.hidden_error;
    }
  }

  std::unique_ptr<Device> device;
  std::shared_ptr<const Checkpoint> checkpoint;
  Golden golden;
  std::unique_ptr<TextModel> model;
};

class GoldenCase : public testing::TestWithParam<const char*> {};

TEST_P(GoldenCase, Float32WholePromptsChunksAndBatches) {
  const Loaded m(GetParam(), DType::kF32, 2);
  m.expect_pass({0, 1, 16});
  m.expect_pass({0, 4, 16});
  for (const int64_t chunk : {1, 2, 3, 7, 16, 17, 64}) m.expect_pass({chunk, 4, 16});
  m.expect_pass({5, 3, 32});
}

TEST_P(GoldenCase, Bfloat16WithinTheReferencesOwnError) {
  const Loaded m(GetParam(), DType::kBF16, 2);
  ASSERT_TRUE(m.golden.reference_bf16_error.has_value());
  m.expect_pass({0, 1, 16});
  m.expect_pass({7, 4, 16});
}

TEST_P(GoldenCase, EveryInstructionSet) {
  for (const std::string& isa : available_isas()) {
    SCOPED_TRACE(isa);
    Loaded(GetParam(), DType::kF32, 1, isa).expect_pass({0, 4, 16});
    Loaded(GetParam(), DType::kBF16, 1, isa).expect_pass({0, 4, 16});
  }
}

TEST(Verify, ANaNIsBrokenAtEveryPrecisionWithAndWithoutLogits) {
  const fs::path folder = doctored_case("dense-tied");
  const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(folder);
  const std::unique_ptr<Device> device = make_cpu_device(1, "");
  const Golden golden = read_golden(folder / "golden.safetensors", checkpoint->config());
  Golden ids_only = golden;  // as the JSON goldens are
  for (GoldenSequence& sequence : ids_only.sequences) sequence.logits.clear();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const auto model = TextModel::load(checkpoint, *device, {dtype, false});
    for (const Golden* held : std::initializer_list<const Golden*>{&golden, &ids_only}) {
      const VerifyReport report = verify(*model, *device, *held, {0, 4, 16});
      for (const SequenceReport& r : report.sequences) EXPECT_FALSE(r.finite) << r.name;
      EXPECT_GE(report.broken.size(), report.sequences.size());
    }
  }
}

TEST(Verify, AWrongHiddenStateIsBrokenInFloat32) {
  Loaded m("dense-tied", DType::kF32, 1);
  int doctored = 0;
  for (GoldenSequence& sequence : m.golden.sequences) {
    for (auto& [layer, values] : sequence.hidden) {
      values[0] += 1;
      ++doctored;
    }
  }
  ASSERT_GT(doctored, 0);
  const VerifyReport report = verify(*m.model, *m.device, m.golden, {0, 4, 16});
  ASSERT_EQ(report.broken.size(), 1U);
  EXPECT_NE(report.broken[0].find("hidden state"), std::string::npos) << report.broken[0];
}

INSTANTIATE_TEST_SUITE_P(Text, GoldenCase, testing::ValuesIn(kCaseNames), [](const auto& which) {
  std::string name = which.param;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

// Logits of every position of `ids`, fed in pieces of `chunk`, next to `crowd` other sequences in
// the same steps.
std::vector<float> run_pieces(const Loaded& m, const std::vector<int32_t>& ids, int64_t chunk,
                              int crowd) {
  const auto length = static_cast<int32_t>(ids.size());
  const int32_t blocks = (length + 15) / 16;
  KvCache cache = m.device->make_kv_cache(m.model->kv_spec(16), blocks * (crowd + 1));
  const int64_t width = (crowd + 1) * std::min<int64_t>(chunk, length);
  Arena arena(m.device->allocate(m.model->arena_bytes(width, width)));
  std::vector<float> logits;
  for (int32_t at = 0; at < length; at += static_cast<int32_t>(chunk)) {
    const auto end = static_cast<int32_t>(std::min<int64_t>(length, at + chunk));
    std::vector<int32_t> tokens, positions, start = {0}, context, table, rows;
    for (int s = 0; s <= crowd; ++s) {
      for (int32_t i = at; i < end; ++i) {
        // The sequence under test comes last; the others have other tokens.
        tokens.push_back(s == crowd ? ids[static_cast<size_t>(i)] : (i * 7 + s * 13) % 90);
        positions.push_back(i);
      }
      start.push_back(static_cast<int32_t>(tokens.size()));
      context.push_back(end);
      for (int32_t b = 0; b < blocks; ++b) table.push_back(s * blocks + b);
    }
    for (int32_t r = start[static_cast<size_t>(crowd)]; r < start.back(); ++r) rows.push_back(r);
    arena.reset();
    Ctx ctx{*m.device, arena};
    const Tensor out =
        m.model->forward(ctx, {tokens, positions, start, context, table, blocks, rows}, cache);
    logits.insert(logits.end(), out.ptr<float>(), out.ptr<float>() + out.elements());
  }
  return logits;
}

TEST_P(GoldenCase, BatchInvariantBitForBit) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Loaded m(GetParam(), dtype, 1);
    const std::vector<int32_t>& ids = m.golden.sequences[3].ids;
    const std::vector<float> whole = run_pieces(m, ids, 150, 0);
    const auto expect_same = [&](const std::vector<float>& other) {
      ASSERT_EQ(whole.size(), other.size());
      EXPECT_EQ(std::memcmp(whole.data(), other.data(), whole.size() * sizeof(float)), 0);
    };
    expect_same(run_pieces(m, ids, 1, 0));
    expect_same(run_pieces(m, ids, 7, 3));
    expect_same(run_pieces(m, ids, 64, 1));
    for (const int threads : {2, 3, 5}) {
      const Loaded threaded(GetParam(), dtype, threads);
      expect_same(run_pieces(threaded, ids, 150, 0));
      expect_same(run_pieces(threaded, ids, 16, 5));
    }
  }
}

TEST(TextModel, CachesOfEightBitsMoveTheLogitsALittle) {
  Loaded m("dense-tied", DType::kF32, 1);
  EXPECT_EQ(m.model->kv_spec(16).dtype, DType::kF32);
  for (const DType cache : {DType::kI8, DType::kF8E4M3}) {
    LoadOptions options{DType::kF32};
    options.cache_dtype = cache;
    m.model = TextModel::load(m.checkpoint, *m.device, options);
    EXPECT_EQ(m.model->kv_spec(16).dtype, cache);
    const VerifyReport report = verify(*m.model, *m.device, m.golden, {5, 4, 16});
    for (const SequenceReport& r : report.sequences) {
      EXPECT_TRUE(r.finite);
      EXPECT_GT(r.max_error, 5e-6 * r.max_logit) << "the cache is as exact as float32";
      EXPECT_LT(r.mean_error, (cache == DType::kI8 ? 0.01 : 0.02) * r.max_logit);
    }
  }
  LoadOptions wide{DType::kBF16};
  wide.cache_dtype = DType::kF32;
  EXPECT_THROW(TextModel::load(m.checkpoint, *m.device, wide), Error);
}

TEST(TextModel, ArenaDryRunIsEnoughAndTight) {
  const Loaded m("moe", DType::kF32, 1);
  const size_t bytes = m.model->arena_bytes(150, 150);
  EXPECT_GT(bytes, 150U * 4U * static_cast<size_t>(m.model->config().vocab_size));
  EXPECT_LT(m.model->arena_bytes(150, 1), bytes);
}

}  // namespace
}  // namespace erne
