#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/rng.h"

namespace erne {
namespace {

constexpr size_t kBlock = 64;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kLogprobFloor = -9999.0F;
constexpr double kGreedyTemperature = 1e-6;

// Four lanes: SSE2 and NEON registers, which every target has.
using Vec = float __attribute__((vector_size(16)));
using VecI = int32_t __attribute__((vector_size(16)));
constexpr size_t kLanes = 4;

Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

// e^x for x <= 0, relative error below 3e-7; 0 below -87. Cephes' reduction: x = n ln 2 + r with
// |r| <= 0.35.
Vec exp_negative(Vec x) {
  const VecI live = x > -87.0F;
  x = live ? x : Vec{};
  const VecI n =
      __builtin_convertvector(x * 1.44269504F - 0.5F, VecI);  // truncation rounds, since x <= 0
  const Vec nf = __builtin_convertvector(n, Vec);
  const Vec r = (x - nf * 0.693359375F) + nf * 2.12194440e-4F;
  Vec y = r * 1.98412698e-4F + 1.38888889e-3F;
  y = y * r + 8.33333333e-3F;
  y = y * r + 4.16666667e-2F;
  y = y * r + 1.66666667e-1F;
  y = y * r + 0.5F;
  y = y * r + 1.0F;
  y = y * r + 1.0F;
  Vec scale;
  const VecI bits = (n + 127) << 23;
  std::memcpy(&scale, &bits, sizeof(scale));
  return live ? y * scale : Vec{};
}

float exp_negative(float x) { return exp_negative(Vec{x, x, x, x})[0]; }

}  // namespace

bool has_penalties(const SamplingParams& p) {
  return p.repetition_penalty != 1.0 || p.frequency_penalty != 0.0 || p.presence_penalty != 0.0;
}

Sampler::Sampler(int64_t vocab_size) : vocab_(vocab_size) {
  const auto v = static_cast<size_t>(vocab_size);
  const size_t blocks = (v + kBlock - 1) / kBlock;
  block_max_.resize(blocks);
  bounds_.resize(blocks);
  block_sum_.resize(blocks);
  row_.resize(v);
  weights_.resize(v);
}

bool Sampler::better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

std::span<const float> Sampler::adjust(std::span<const float> logits, const SampleArgs& args) {
  const SamplingParams& p = args.params;
  if (args.counts.empty() && args.masked_ids.empty() && p.logit_bias.empty()) return logits;
  std::copy(logits.begin(), logits.end(), row_.begin());
  const auto at = [&](int32_t id) -> float& { return row_[static_cast<size_t>(id)]; };
  const auto repetition = static_cast<float>(p.repetition_penalty);
  for (const TokenCounts::Entry& seen : args.counts.entries()) {
    float& logit = at(seen.id);
    logit = logit > 0 ? logit / repetition : logit * repetition;
    if (seen.in_output > 0) {
      logit -= static_cast<float>(p.frequency_penalty * seen.in_output + p.presence_penalty);
    }
  }
  for (const int32_t id : args.masked_ids) at(id) = -kInf;
  for (const auto& [id, bias] : p.logit_bias) at(id) += bias;
  return row_;
}

// Block maxima and the row's maximum; false if the row has no usable distribution.
bool Sampler::scan(std::span<const float> row) {
  VecI nan{};
  bool tail_nan = false;
  max_ = -kInf;
  for (size_t block = 0; block < block_max_.size(); ++block) {
    const size_t begin = block * kBlock;
    const size_t end = std::min(begin + kBlock, row.size());
    Vec high = {-kInf, -kInf, -kInf, -kInf};
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      const Vec x = load(&row[i]);
      nan |= x != x;
      high = x > high ? x : high;
    }
    float best = std::max(std::max(high[0], high[1]), std::max(high[2], high[3]));
    for (; i < end; ++i) {
      tail_nan |= std::isnan(row[i]);
      best = std::max(best, row[i]);
    }
    block_max_[block] = best;
    max_ = std::max(max_, best);
  }
  return !tail_nan && (nan[0] | nan[1] | nan[2] | nan[3]) == 0 && std::isfinite(max_);
}

int32_t Sampler::arg_max(std::span<const float> row) const {
  const auto block = std::find(block_max_.begin(), block_max_.end(), max_) - block_max_.begin();
  const auto from = row.begin() + block * static_cast<ptrdiff_t>(kBlock);
  return static_cast<int32_t>(std::find(from, row.end(), max_) - row.begin());
}

// A lower bound of the k-th best logit: the k-th best block maximum.
float Sampler::kth_bound(int64_t k) {
  if (k > static_cast<int64_t>(block_max_.size())) return -kInf;
  std::copy(block_max_.begin(), block_max_.end(), bounds_.begin());
  const auto kth = bounds_.begin() + (k - 1);
  std::nth_element(bounds_.begin(), kth, bounds_.end(), std::greater<>());
  return *kth;
}

// Candidates with logit >= least, by id. Ids at -inf stay out: their weight is 0.
void Sampler::gather(std::span<const float> row, float least, float inverse_temperature) {
  candidates_.clear();
  for (size_t block = 0; block < block_max_.size(); ++block) {
    if (block_max_[block] < least || block_max_[block] == -kInf) continue;
    const size_t end = std::min((block + 1) * kBlock, row.size());
    for (size_t i = block * kBlock; i < end; ++i) {
      if (row[i] < least || row[i] == -kInf) continue;
      candidates_.push_back(
          {exp_negative((row[i] - max_) * inverse_temperature), row[i], static_cast<int32_t>(i)});
    }
  }
}

// Candidates that are no worse than the k-th best, still by id.
void Sampler::keep_top_k(size_t k) {
  if (candidates_.size() <= k) return;
  order_ = candidates_;
  const auto kth = order_.begin() + static_cast<ptrdiff_t>(k - 1);
  std::nth_element(order_.begin(), kth, order_.end(), better);
  const Candidate edge = *kth;
  std::erase_if(candidates_, [&](const Candidate& c) { return better(edge, c); });
}

// exp((logit - max) / T) of every id, and their sum: within a block in float lanes, over blocks in
// double.
double Sampler::weigh_all(std::span<const float> row, float inverse_temperature) {
  double total = 0;
  for (size_t block = 0; block < block_sum_.size(); ++block) {
    const size_t end = std::min((block + 1) * kBlock, row.size());
    Vec sum{};
    size_t i = block * kBlock;
    for (; i + kLanes <= end; i += kLanes) {
      const Vec w = exp_negative((load(&row[i]) - max_) * inverse_temperature);
      std::memcpy(&weights_[i], &w, sizeof(w));
      sum += w;
    }
    double block_sum = (double{sum[0]} + double{sum[1]}) + (double{sum[2]} + double{sum[3]});
    for (; i < end; ++i) {
      weights_[i] = exp_negative((row[i] - max_) * inverse_temperature);
      block_sum += double{weights_[i]};
    }
    block_sum_[block] = block_sum;
    total += block_sum;
  }
  return total;
}

void Sampler::gather_weights(std::span<const float> row, float least) {
  candidates_.clear();
  for (size_t i = 0; i < row.size(); ++i) {
    if (weights_[i] < least || weights_[i] == 0) continue;
    candidates_.push_back({weights_[i], row[i], static_cast<int32_t>(i)});
  }
}

// Keeps the shortest run of the best candidates whose weight reaches top_p * total (the one that
// crosses stays). The edge is found by halving: after nth_element the better half is left of the
// middle, and only one half needs another look.
void Sampler::keep_top_p(double top_p, double total) {
  order_ = candidates_;
  double missing = top_p * total;
  auto begin = order_.begin();
  auto end = order_.end();
  while (end - begin > 16) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, better);
    double mass = 0;
    for (auto c = begin; c != middle; ++c) mass += double{c->weight};
    if (mass >= missing) {
      end = middle;
    } else {
      missing -= mass;
      begin = middle;
    }
  }
  std::sort(begin, end, better);
  auto edge = begin;
  while (edge + 1 != end && (missing -= double{edge->weight}) > 0) ++edge;
  const Candidate last = *edge;
  std::erase_if(candidates_, [&](const Candidate& c) { return better(last, c); });
}

int32_t Sampler::draw(double uniform) const {
  double total = 0;
  for (const Candidate& c : candidates_) total += double{c.weight};
  double rest = uniform * total;
  for (const Candidate& c : candidates_) {
    rest -= double{c.weight};
    if (rest < 0) return c.id;
  }
  return candidates_.back().id;  // rounding: uniform < 1, so at most an ulp is left
}

int32_t Sampler::draw_from_all(double uniform, double total) const {
  size_t last_block = block_sum_.size() - 1;
  while (last_block > 0 && block_sum_[last_block] <= 0)
    --last_block;  // rounding must not lead past the weights
  double rest = uniform * total;
  size_t block = 0;
  while (block < last_block && rest >= block_sum_[block]) rest -= block_sum_[block++];
  const size_t end = std::min((block + 1) * kBlock, weights_.size());
  size_t last = block * kBlock;
  for (size_t i = last; i < end; ++i) {
    if (weights_[i] <= 0) continue;
    last = i;
    rest -= double{weights_[i]};
    if (rest < 0) break;
  }
  return static_cast<int32_t>(last);
}

std::optional<int32_t> Sampler::sample(std::span<const float> logits, const SampleArgs& args) {
  ERNE_CHECK(static_cast<int64_t>(logits.size()) == vocab_, "row of {}, vocabulary of {}",
             logits.size(), vocab_);
  const SamplingParams& p = args.params;
  const std::span<const float> row = adjust(logits, args);
  if (!scan(row)) return std::nullopt;
  if (p.temperature < kGreedyTemperature || p.top_k == 1) return arg_max(row);

  const double uniform = philox_uniform(args.seed, args.choice, args.position);
  const auto inverse_temperature = static_cast<float>(1.0 / p.temperature);
  const bool top_k = p.top_k > 0 && p.top_k < vocab_;
  double total = 0;
  if (top_k) {
    gather(row, kth_bound(p.top_k), inverse_temperature);
    keep_top_k(static_cast<size_t>(p.top_k));
    for (const Candidate& c : candidates_) total += double{c.weight};
  } else {
    total = weigh_all(row, inverse_temperature);
    if (p.top_p >= 1 && p.min_p <= 0) return draw_from_all(uniform, total);
    // Ids lighter than this weigh less than 1 - top_p together, so the nucleus does without them.
    const double share = (1 - p.top_p) / static_cast<double>(vocab_) * 0.999;
    gather_weights(row, static_cast<float>(p.top_p < 1 ? share * total : 0.0));
  }
  if (p.top_p < 1) keep_top_p(p.top_p, total);
  if (p.min_p > 0) {
    const auto least = static_cast<float>(p.min_p);  // the best candidate weighs exactly 1
    std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < least; });
  }
  return draw(uniform);
}

TokenLogprob Sampler::logprob(std::span<const float> logits, int32_t id, int num_top) {
  TokenLogprob result{id, kLogprobFloor, {}};
  if (!scan(logits)) return result;
  const double log_total = std::log(weigh_all(logits, 1.0F)) + double{max_};
  const auto of = [&](float logit) {
    return std::max(kLogprobFloor, static_cast<float>(double{logit} - log_total));
  };
  result.logprob = of(logits[static_cast<size_t>(id)]);
  if (num_top > 0) {
    const auto k = std::min<int64_t>(num_top, vocab_);
    gather(logits, kth_bound(k), 1.0F);
    keep_top_k(static_cast<size_t>(k));
    std::sort(candidates_.begin(), candidates_.end(), better);
    for (const Candidate& c : candidates_) result.top.emplace_back(c.id, of(c.logit));
  }
  return result;
}

}  // namespace erne
