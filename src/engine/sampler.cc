#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"
#include "engine/logit_rows.h"

namespace erne {
namespace {

using logit_rows::kBlock;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kLogprobFloor = -9999.0F;
constexpr double kGreedyTemperature = 1e-6;

// Weights lie in (0, 1]: the exponent and four mantissa bits of a float number 2033 bins.
constexpr int kBinShift = 19;
size_t bin_of(float weight) { return std::bit_cast<uint32_t>(weight) >> kBinShift; }

}  // namespace

bool has_penalties(const SamplingParams& p) {
  return p.repetition_penalty != 1.0 || p.frequency_penalty != 0.0 || p.presence_penalty != 0.0;
}

bool is_greedy(const SamplingParams& p) {
  return p.temperature < kGreedyTemperature || p.top_k == 1;
}

Sampler::Sampler(int64_t vocab_size) : vocab_(vocab_size), bins_(bin_of(1.0F) + 1) {
  const auto v = static_cast<size_t>(vocab_size);
  const size_t blocks = logit_rows::num_blocks(v);
  row_.resize(v);
  block_max_.resize(blocks);
  bounds_.resize(blocks);
  weights_.resize(v);
  block_sum_.resize(blocks);
}

std::span<const float> Sampler::adjust(std::span<const float> logits, const SampleArgs& args) {
  const SamplingParams& p = args.params;
  if (args.counts.empty() && args.masked_ids.empty() && p.logit_bias.empty()) return logits;
  std::copy(logits.begin(), logits.end(), row_.begin());
  const auto at = [&](int32_t id) -> float& { return row_[static_cast<size_t>(id)]; };
  const auto repetition = static_cast<float>(p.repetition_penalty);
  const auto repeat = [&](int32_t id) {
    float& logit = at(id);
    logit = logit > 0 ? logit / repetition : logit * repetition;
  };
  for (const int32_t id : args.counts.prompt()) repeat(id);
  for (const TokenCounts::Entry& seen : args.counts.output()) {
    if (!seen.in_prompt) repeat(seen.id);
    at(seen.id) -= static_cast<float>(p.frequency_penalty * seen.in_output + p.presence_penalty);
  }
  for (const int32_t id : args.masked_ids) at(id) = -kInf;
  for (const auto& [id, bias] : p.logit_bias) at(id) += bias;
  return row_;
}

// Block maxima and the row's maximum; false if the row has no usable distribution.
bool Sampler::scan(std::span<const float> row) {
  if (!logit_rows::block_maxima(row.data(), row.size(), block_max_.data())) return false;
  max_ = *std::max_element(block_max_.begin(), block_max_.end());
  return std::isfinite(max_);
}

int32_t Sampler::arg_max(std::span<const float> row) const {
  const auto block = std::find(block_max_.begin(), block_max_.end(), max_) - block_max_.begin();
  const auto from = row.begin() + block * static_cast<ptrdiff_t>(kBlock);
  return static_cast<int32_t>(std::find(from, row.end(), max_) - row.begin());
}

double Sampler::weigh_all(std::span<const float> row, float inverse_temperature) {
  logit_rows::weigh(row.data(), row.size(), max_, inverse_temperature, weights_.data(),
                    block_sum_.data());
  return std::accumulate(block_sum_.begin(), block_sum_.end(), 0.0);
}

// The candidate at which the mass of the best ones reaches `mass` (the last one if rounding keeps
// it from that). Found by halving: after nth_element the better half is left of the middle, and
// only one half needs another look.
template <typename Order>
Sampler::Candidate Sampler::nucleus_edge(std::vector<Candidate>& candidates, double mass,
                                         Order better) {
  auto begin = candidates.begin();
  auto end = candidates.end();
  while (end - begin > 16) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, better);
    double half = 0;
    for (auto c = begin; c != middle; ++c) half += double{c->weight};
    if (half >= mass) {
      end = middle;
    } else {
      mass -= half;
      begin = middle;
    }
  }
  std::sort(begin, end, better);
  while (begin + 1 != end && (mass -= double{begin->weight}) > 0) ++begin;
  return *begin;
}

// --- with top_k: a few candidates

// The k best by (logit, lower id), in order of id. Ids at -inf stay out: their weight is 0.
void Sampler::gather_top(std::span<const float> row, int64_t k, float inverse_temperature) {
  const auto rank = static_cast<ptrdiff_t>(k) - 1;
  float least = -kInf;
  if (k <= static_cast<int64_t>(block_max_.size())) {
    bounds_ = block_max_;
    std::nth_element(bounds_.begin(), bounds_.begin() + rank, bounds_.end(), std::greater<>());
    least = bounds_[static_cast<size_t>(rank)];
  }
  candidates_.clear();
  for (size_t block = 0; block < block_max_.size(); ++block) {
    if (block_max_[block] < least) continue;
    const size_t end = std::min((block + 1) * kBlock, row.size());
    for (size_t i = block * kBlock; i < end; ++i) {
      if (row[i] >= least && row[i] > -kInf)
        candidates_.push_back({0, row[i], static_cast<int32_t>(i)});
    }
  }
  if (static_cast<int64_t>(candidates_.size()) > k) {
    const auto better = [](const Candidate& a, const Candidate& b) {
      return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
    };
    order_ = candidates_;
    std::nth_element(order_.begin(), order_.begin() + rank, order_.end(), better);
    const Candidate edge = order_[static_cast<size_t>(rank)];
    std::erase_if(candidates_, [&](const Candidate& c) { return better(edge, c); });
  }
  for (Candidate& c : candidates_)
    c.weight = logit_rows::weight(c.logit, max_, inverse_temperature);
}

int32_t Sampler::sample_top_k(std::span<const float> row, const SamplingParams& p, double uniform) {
  gather_top(row, p.top_k, static_cast<float>(1.0 / p.temperature));
  const auto total = [&] {
    double sum = 0;
    for (const Candidate& c : candidates_) sum += double{c.weight};
    return sum;
  };
  if (p.top_p < 1) {
    const auto better = [](const Candidate& a, const Candidate& b) {
      return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
    };
    order_ = candidates_;
    const Candidate edge = nucleus_edge(order_, p.top_p * total(), better);
    std::erase_if(candidates_, [&](const Candidate& c) { return better(edge, c); });
  }
  const auto least = static_cast<float>(p.min_p);  // the best candidate weighs exactly 1
  std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < least; });
  double rest = uniform * total();
  for (const Candidate& c : candidates_) {
    rest -= double{c.weight};
    if (rest < 0) return c.id;
  }
  return candidates_.back().id;  // rounding: uniform < 1, so at most an ulp is left
}

// --- without: thresholds over the whole row

// Zeroes every weight outside the smallest set of best ids that holds top_p of the total (the one
// that crosses stays in).
void Sampler::drop_outside_nucleus(double top_p, double total) {
  std::fill(bins_.begin(), bins_.end(), 0.0);
  // No test for light weights: a mispredicted branch costs more than the addition.
  for (const float w : weights_) bins_[bin_of(w)] += double{w};
  double mass = top_p * total;
  size_t bin = bins_.size() - 1;
  while (bin > 0 && bins_[bin] < mass) mass -= bins_[bin--];
  order_.clear();
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (bin_of(weights_[i]) == bin) order_.push_back({weights_[i], 0, static_cast<int32_t>(i)});
  }
  if (order_.empty()) return;  // rounding: everything is needed
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
  };
  const Candidate edge = nucleus_edge(order_, mass, better);
  logit_rows::drop_light(weights_.data(), weights_.size(), edge.weight,
                         static_cast<size_t>(edge.id), std::nextafter(edge.weight, kInf),
                         block_sum_.data());
}

int32_t Sampler::draw(double uniform) const {
  size_t last_block = block_sum_.size() - 1;
  while (last_block > 0 && block_sum_[last_block] <= 0)
    --last_block;  // rounding must not lead past the weights
  double rest = uniform * std::accumulate(block_sum_.begin(), block_sum_.end(), 0.0);
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

int32_t Sampler::sample_all(std::span<const float> row, const SamplingParams& p, double uniform) {
  const double total = weigh_all(row, static_cast<float>(1.0 / p.temperature));
  if (p.top_p < 1) drop_outside_nucleus(p.top_p, total);
  if (p.min_p > 0) {
    const auto least = static_cast<float>(p.min_p);  // the best id weighs exactly 1
    logit_rows::drop_light(weights_.data(), weights_.size(), least, weights_.size(), least,
                           block_sum_.data());
  }
  return draw(uniform);
}

std::optional<int32_t> Sampler::sample(std::span<const float> logits, const SampleArgs& args) {
  ERNE_CHECK(static_cast<int64_t>(logits.size()) == vocab_, "row of {}, vocabulary of {}",
             logits.size(), vocab_);
  const SamplingParams& p = args.params;
  const std::span<const float> row = adjust(logits, args);
  // A mask must not hide what the model got wrong.
  if (row.data() != logits.data() && !scan(logits)) return std::nullopt;
  if (!scan(row)) return std::nullopt;
  if (is_greedy(p)) return arg_max(row);
  const double uniform = philox_uniform(args.seed, args.choice, args.position);
  return p.top_k > 0 && p.top_k < vocab_ ? sample_top_k(row, p, uniform)
                                         : sample_all(row, p, uniform);
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
    gather_top(logits, std::min<int64_t>(num_top, vocab_), 1.0F);
    std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
      return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
    });
    for (const Candidate& c : candidates_) result.top.emplace_back(c.id, of(c.logit));
  }
  return result;
}

}  // namespace erne
