// draw() on a GPU against the CPU's Sampler: the same ids from the same logits.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "base/rng.h"
#include "engine/draw_list.h"
#include "engine/logit_rows.h"
#include "gpu/test_device.h"

namespace erne::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(Draw, ExponentialsAreTheSamplersBitForBit) {
  for (uint64_t i = 0; i < 200000; ++i) {
    const auto x = static_cast<float>(philox_uniform(3, 0, i) * (i % 2 == 0 ? -100 : -2));
    ASSERT_EQ(exp_negative(x), logit_rows::weight(x, 0, 1)) << x;
  }
  EXPECT_EQ(exp_negative(0), 1.0F);
  EXPECT_EQ(exp_negative(-kInf), 0.0F);
}

/// One request's parameters and what it has seen.
struct Case {
  explicit Case(std::string text) : name(std::move(text)) {}
  std::string name;
  SamplingParams params;
  std::vector<int32_t> prompt, masked;
  TokenCounts counts;
};

Case& add(std::vector<Case>& all, std::string name) { return all.emplace_back(std::move(name)); }

std::vector<Case> cases(int64_t vocab) {
  std::vector<Case> all;
  const auto id = [&](int64_t at) { return static_cast<int32_t>(at * 7919 % vocab); };
  add(all, "plain");
  add(all, "greedy").params.temperature = 0;
  add(all, "cold").params.temperature = 0.3;
  add(all, "hot").params.temperature = 2.5;
  for (const int k : {1, 2, 20, 50, 600, 5000})
    add(all, fmt::format("top_k {}", k)).params.top_k = k;
  for (const double p : {1e-4, 0.3, 0.8, 0.95, 0.9999})
    add(all, fmt::format("top_p {}", p)).params.top_p = p;
  for (const double p : {0.02, 0.3, 1.0}) add(all, fmt::format("min_p {}", p)).params.min_p = p;
  for (const bool greedy : {false, true}) {
    Case& all_at_once = add(all, greedy ? "edits, greedy" : "edits, all filters");
    SamplingParams& p = all_at_once.params;
    p.temperature = greedy ? 0.0 : 1.3;
    p.top_k = 40;
    p.top_p = 0.9;
    p.min_p = 0.01;
    p.repetition_penalty = 1.3;
    p.frequency_penalty = 0.4;
    p.presence_penalty = -0.2;
    p.logit_bias = {{id(1), 3.0F}, {id(2), -100.0F}, {id(1), 0.7F}, {id(5), 1.0F}};
    all_at_once.masked = {id(3), id(3), id(5)};
    std::set<int32_t> seen;
    for (int64_t i = 0; i < 300; ++i) seen.insert(id(i));
    all_at_once.prompt.assign(seen.begin(), seen.end());
  }
  Case& biased = add(all, "bias alone");
  biased.params.logit_bias = {{id(4), 100.0F}};
  return all;
}

/// Logits with exact ties (multiples of 1/64) or without, spread like a model's: a few high ones.
std::vector<float> logit_row(uint64_t seed, int64_t vocab) {
  std::vector<float> row;
  for (int64_t v = 0; v < vocab; ++v) {
    const double u = philox_uniform(seed, 5, static_cast<uint64_t>(v));
    double logit = seed % 3 == 0 ? std::round(u * 640) / 64 : -4 * std::log(u + 1e-9) - 6;
    if (seed % 5 == 4 && v % 3 != 0) logit = -INFINITY;
    row.push_back(static_cast<float>(logit));
  }
  return row;
}

// Every case on rows of its own, some of which it skips; all in one call.
void expect_draws_of_the_cpu(int64_t vocab, int64_t rows_each) {
  const auto device = make_test_device();
  std::vector<Case> all = cases(vocab);
  Sampler sampler(vocab);
  DrawList list;
  std::vector<float> logits;
  std::vector<std::optional<int32_t>> expected;
  int32_t row = 0;
  for (Case& c : all) {
    if (!c.prompt.empty()) {
      c.counts.set_prompt(c.prompt);
      for (int32_t i = 0; i < 30; ++i) c.counts.add_output(static_cast<int32_t>(i * i % vocab));
    }
    for (int64_t r = 0; r < rows_each; ++r) {
      const std::vector<float> values = logit_row(static_cast<uint64_t>(row) + 11, vocab);
      logits.insert(logits.end(), values.begin(), values.end());
      const SampleArgs args{c.params, c.counts, c.masked, 77, 1, static_cast<uint64_t>(row)};
      if (row % 7 != 6) {
        list.add(row, args);
        expected.push_back(sampler.sample(values, args));
      }
      ++row;
    }
  }
  const DeviceValues there(*device, Values(DType::kF32, {row, vocab}, logits));
  const auto ids = device->draw(there.tensor(), list.draws(), list.edits());
  ASSERT_EQ(ids.size(), expected.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(ids[i], expected[i].value_or(-1))
        << "vocabulary " << vocab << ", "
        << all[static_cast<size_t>(list.draws()[i].row / rows_each)].name;
  }
  EXPECT_TRUE(there.guards_hold());
}

TEST(Draw, EqualsTheCpusOverVocabulariesAndParameters) {
  for (const int64_t vocab : {1, 7, 64, 67, 511, 512, 513, 5000})
    expect_draws_of_the_cpu(vocab, 12);
}

TEST(Draw, EqualsTheCpusOverAWholeVocabulary) { expect_draws_of_the_cpu(103424, 2); }

TEST(Draw, DoesNotDependOnTheOrderOfThreads) {
  for_each_schedule([] { expect_draws_of_the_cpu(1001, 5); });
}

TEST(Draw, RowsWithoutADistributionGiveNone) {
  const auto device = make_test_device();
  const int64_t vocab = 600;
  std::vector<float> logits;
  const auto add_row = [&](float value, float odd) {
    logits.insert(logits.end(), static_cast<size_t>(vocab), value);
    logits[logits.size() - 13] = odd;
  };
  add_row(1, std::numeric_limits<float>::quiet_NaN());
  add_row(1, -std::numeric_limits<float>::quiet_NaN());
  add_row(1, kInf);
  add_row(-kInf, -kInf);
  add_row(-kInf, -3);
  Case masks_it("");
  masks_it.masked = {static_cast<int32_t>(vocab - 13)};
  const Case plain("");
  DrawList list;
  for (int32_t row = 0; row < 5; ++row)
    list.add(row, {plain.params, plain.counts, plain.masked, 1, 0, 9});
  const DeviceValues there(*device, Values(DType::kF32, {5, vocab}, logits));
  const auto ids = device->draw(there.tensor(), list.draws(), list.edits());
  EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()),
            (std::vector<int32_t>{-1, -1, -1, -1, static_cast<int32_t>(vocab - 13)}));
  // A mask hides neither a NaN nor leaves anything of the last row.
  list.clear();
  for (const int32_t row : {0, 2, 4})
    list.add(row, {plain.params, plain.counts, masks_it.masked, 1, 0, 9});
  for (const int32_t id : device->draw(there.tensor(), list.draws(), list.edits()))
    EXPECT_EQ(id, -1);
}

}  // namespace
}  // namespace erne::test
