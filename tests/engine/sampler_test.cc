// The drawn distribution equals the wanted one (chi-square against a plain reading of spec
// serving.md 4.5), and the edges.
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "base/rng.h"

namespace erne {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> random_row(uint64_t seed, int64_t vocab, double spread) {
  std::vector<float> row;
  for (int64_t v = 0; v < vocab; ++v) {
    // Rounded, so that ties occur.
    row.push_back(static_cast<float>(
        std::round(philox_uniform(seed, 5, static_cast<uint64_t>(v)) * 64) / 64 * spread));
  }
  return row;
}

/// The order of operations word for word, with a full sort, in double.
std::vector<double> wanted(const std::vector<float>& logits, const SampleArgs& args) {
  const SamplingParams& p = args.params;
  std::vector<double> x(logits.begin(), logits.end());
  std::set<int32_t> seen(args.counts.prompt().begin(), args.counts.prompt().end());
  for (const TokenCounts::Entry& e : args.counts.output()) seen.insert(e.id);
  for (const int32_t id : seen) {
    double& v = x[static_cast<size_t>(id)];
    v = v > 0 ? v / p.repetition_penalty : v * p.repetition_penalty;
  }
  for (const TokenCounts::Entry& e : args.counts.output()) {
    x[static_cast<size_t>(e.id)] -= p.frequency_penalty * e.in_output + p.presence_penalty;
  }
  for (const int32_t id : args.masked_ids) x[static_cast<size_t>(id)] = -INFINITY;
  for (const auto& [id, bias] : p.logit_bias) x[static_cast<size_t>(id)] += bias;
  const double max = *std::max_element(x.begin(), x.end());
  for (double& v : x) v = std::exp((v - max) / p.temperature);
  std::vector<size_t> order(x.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });
  const auto normalise = [&] {
    const double sum = std::accumulate(x.begin(), x.end(), 0.0);
    for (double& v : x) v /= sum;
  };
  normalise();
  if (p.top_k > 0) {
    for (size_t i = static_cast<size_t>(p.top_k); i < order.size(); ++i) x[order[i]] = 0;
    normalise();
  }
  double mass = 0;
  for (const size_t i : order) {
    const bool keep = mass < p.top_p;
    mass += x[i];
    if (!keep) x[i] = 0;
  }
  normalise();
  const double least = p.min_p * *std::max_element(x.begin(), x.end());
  for (double& v : x) v = v < least ? 0 : v;
  normalise();
  return x;
}

struct Setting {
  const char* name;
  int64_t vocab;
  double spread;
  SamplingParams params;
};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  const auto add = [&](const char* name, int64_t vocab, double spread) -> SamplingParams& {
    all.push_back({name, vocab, spread, {}});
    return all.back().params;
  };
  all.reserve(16);
  add("plain", 50, 4);
  add("one block and a tail", 67, 3);
  add("temperature", 50, 4).temperature = 0.4;
  add("hot", 130, 6).temperature = 1.7;
  add("top_k", 200, 5).top_k = 7;
  add("top_k beyond the blocks", 200, 5).top_k = 60;
  add("top_k beyond the vocabulary", 20, 3).top_k = 1000;
  add("top_p", 200, 6).top_p = 0.7;
  add("top_p keeps nearly all", 300, 1).top_p = 0.97;
  add("top_p tiny", 300, 1).top_p = 1e-4;
  add("min_p", 200, 6).min_p = 0.2;
  SamplingParams& joint = add("top_k, then top_p, then min_p", 200, 6);
  joint.top_k = 30;
  joint.top_p = 0.8;
  joint.min_p = 0.1;
  joint.temperature = 1.3;
  SamplingParams& penalties = add("penalties and bias", 40, 5);
  penalties.repetition_penalty = 1.4;
  penalties.frequency_penalty = 0.3;
  penalties.presence_penalty = 0.6;
  penalties.logit_bias = {{3, 2.0F}, {9, -100.0F}};
  return all;
}

TEST(Sampler, DrawsTheWantedDistribution) {
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.name);
    const std::vector<float> logits = random_row(1, setting.vocab, setting.spread);
    constexpr std::array<int32_t, 3> kPrompt = {1, 2, 3};
    TokenCounts counts;
    if (has_penalties(setting.params)) {
      counts.set_prompt(kPrompt);
      for (const int32_t id : {2, 2, 2, 5, 7}) counts.add_output(id);
    }
    const std::vector<int32_t> masked = {11};
    SampleArgs args{setting.params, counts, masked, 42, 0, 0};
    const std::vector<double> p = wanted(logits, args);
    Sampler sampler(setting.vocab);
    constexpr int kDraws = 40000;
    std::vector<int> drawn(logits.size());
    for (int i = 0; i < kDraws; ++i) {
      args.position = static_cast<uint64_t>(i);
      const auto id = sampler.sample(logits, args);
      ASSERT_TRUE(id);
      ++drawn[static_cast<size_t>(*id)];
    }
    double chi2 = 0;
    double rare_p = 0;
    int rare_drawn = 0;
    int cells = 0;
    for (size_t v = 0; v < p.size(); ++v) {
      if (p[v] == 0) {
        EXPECT_EQ(drawn[v], 0) << "token " << v;
      } else if (p[v] * kDraws < 5) {
        rare_p += p[v];
        rare_drawn += drawn[v];
      } else {
        const double expected = p[v] * kDraws;
        chi2 += (drawn[v] - expected) * (drawn[v] - expected) / expected;
        ++cells;
      }
    }
    if (rare_p * kDraws >= 5) {
      const double expected = rare_p * kDraws;
      chi2 += (rare_drawn - expected) * (rare_drawn - expected) / expected;
      ++cells;
    }
    // Mean and deviation of chi-square with `cells - 1` degrees; 4.5 sigma leaves about 1e-5 to
    // chance, and seeds are fixed.
    const double degrees = std::max(1, cells - 1);
    EXPECT_LT(chi2, degrees + 4.5 * std::sqrt(2 * degrees));
  }
}

TEST(Sampler, GreedyTakesTheLowestIdOnTies) {
  std::vector<float> row(300, 1.0F);
  row[130] = row[131] = row[290] = 2.5F;
  Sampler sampler(300);
  const TokenCounts counts;
  SamplingParams params;
  for (const auto& [temperature, top_k, top_p] :
       std::vector<std::tuple<double, int, double>>{{0.0, -1, 1.0},
                                                    {1e-7, -1, 0.5},
                                                    {1.0, 1, 1.0},
                                                    {5.0, 1, 0.3},
                                                    {1.0, -1, 1e-9},
                                                    {1.0, 200, 1e-9}}) {
    params.temperature = temperature;
    params.top_k = top_k;
    params.top_p = top_p;
    for (uint64_t position = 0; position < 50; ++position) {
      EXPECT_EQ(sampler.sample(row, {params, counts, {}, 1, 0, position}), 130);
    }
  }
}

TEST(Sampler, TopKBreaksTiesByLowestId) {
  const std::vector<float> row(100, 0.0F);
  Sampler sampler(100);
  const TokenCounts counts;
  SamplingParams params;
  params.top_k = 3;
  std::vector<int> drawn(100);
  for (uint64_t position = 0; position < 300; ++position) {
    ++drawn[static_cast<size_t>(*sampler.sample(row, {params, counts, {}, 1, 0, position}))];
  }
  EXPECT_GT(drawn[0], 60);
  EXPECT_GT(drawn[1], 60);
  EXPECT_GT(drawn[2], 60);
  EXPECT_EQ(drawn[0] + drawn[1] + drawn[2], 300);
}

TEST(Sampler, ADrawIsAPureFunction) {
  const std::vector<float> row = random_row(3, 5000, 8);
  const TokenCounts counts;
  SamplingParams params;
  params.top_p = 0.95;
  Sampler fresh(5000);
  Sampler used(5000);
  std::vector<std::optional<int32_t>> first;
  for (uint64_t i = 0; i < 100; ++i)
    first.push_back(fresh.sample(row, {params, counts, {}, i / 10, i % 3, i}));
  for (uint64_t i = 100; i-- > 0;) {
    EXPECT_EQ(used.sample(row, {params, counts, {}, i / 10, i % 3, i}),
              first[static_cast<size_t>(i)]);
  }
}

TEST(Sampler, RefusesRowsWithoutADistribution) {
  const TokenCounts counts;
  const SamplingParams params;
  for (const int64_t vocab : {64, 67, 200}) {
    Sampler sampler(vocab);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInf}) {
      for (const int64_t at : {int64_t{0}, vocab / 2, vocab - 1}) {
        std::vector<float> row = random_row(1, vocab, 3);
        row[static_cast<size_t>(at)] = bad;
        EXPECT_FALSE(sampler.sample(row, {params, counts, {}, 1, 0, 0})) << vocab << " " << at;
      }
    }
    const std::vector<float> nothing(static_cast<size_t>(vocab), -kInf);
    EXPECT_FALSE(sampler.sample(nothing, {params, counts, {}, 1, 0, 0}));
    std::vector<float> one = nothing;
    one.back() = -3;
    for (uint64_t i = 0; i < 20; ++i)
      EXPECT_EQ(sampler.sample(one, {params, counts, {}, 1, 0, i}), vocab - 1);
  }
}

TEST(Sampler, LogprobsAreOfTheRawLogits) {
  const std::vector<float> row = random_row(9, 1000, 12);
  double total = 0;
  for (const float x : row) total += std::exp(double{x});
  Sampler sampler(1000);
  const TokenLogprob l = sampler.logprob(row, 17, 20);
  EXPECT_NEAR(double{l.logprob}, double{row[17]} - std::log(total), 1e-5);
  ASSERT_EQ(l.top.size(), 20U);
  std::vector<int32_t> order(1000);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)];
  });
  for (size_t i = 0; i < 20; ++i) EXPECT_EQ(l.top[i].first, order[i]);
  EXPECT_EQ(l.top[0].second, sampler.logprob(row, order[0], 0).logprob);

  std::vector<float> masked = row;
  masked[4] = -kInf;
  EXPECT_EQ(sampler.logprob(masked, 4, 0).logprob, -9999.0F);
}

}  // namespace
}  // namespace erne
