// Logits to the next token id, in the order of spec serving.md 4.5. Pure functions of one row and
// its request: batch mates, scheduling and threads never change a draw.
//
// Selection is by thresholds instead of a sort: maxima of 64-id blocks bound the k-th best logit
// from below, so that only a few candidates of a 100 000 token vocabulary are ever looked at twice.
// Sums run over ids in ascending order.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/request.h"
#include "engine/sequence.h"

namespace erne {

/// What decides a draw besides the logits.
struct SampleArgs {
  const SamplingParams& params;
  const TokenCounts& counts;            ///< prompt and output; empty if no penalty is set
  std::span<const int32_t> masked_ids;  ///< never drawn
  uint64_t seed = 0;
  uint64_t choice = 0;
  uint64_t position = 0;  ///< index of the new token in its sequence
};

bool has_penalties(const SamplingParams& params);
/// Whether the best id is drawn, whatever the generator says.
bool is_greedy(const SamplingParams& params);

/// Holds scratch memory; one thread at a time.
class Sampler {
 public:
  explicit Sampler(int64_t vocab_size);

  /// The next token, or nothing if a logit is NaN or +inf or none is finite. Leaves `logits` [V] as
  /// they are.
  std::optional<int32_t> sample(std::span<const float> logits, const SampleArgs& args);
  /// Of the raw logits: log-softmax at `id` and the `num_top` best, ties to the lower id; floor
  /// -9999.
  TokenLogprob logprob(std::span<const float> logits, int32_t id, int num_top);

 private:
  struct Candidate {
    float weight;  // exp((logit - max) / temperature)
    float logit;
    int32_t id;
  };

  std::span<const float> adjust(std::span<const float> logits, const SampleArgs& args);
  bool scan(std::span<const float> row);
  int32_t arg_max(std::span<const float> row) const;
  double weigh_all(std::span<const float> row, float inverse_temperature);

  int32_t sample_top_k(std::span<const float> row, const SamplingParams& params, double uniform);
  void gather_top(std::span<const float> row, int64_t k, float inverse_temperature);

  int32_t sample_all(std::span<const float> row, const SamplingParams& params, double uniform);
  void drop_outside_nucleus(double top_p, double total);
  int32_t draw(double uniform) const;

  template <typename Order>
  static Candidate nucleus_edge(std::vector<Candidate>& candidates, double mass, Order better);

  int64_t vocab_;
  float max_ = 0;
  std::vector<float> row_;  // adjusted logits
  std::vector<float> block_max_;
  std::vector<float> bounds_;
  std::vector<float> weights_;
  std::vector<double> block_sum_;
  std::vector<double> bins_;  // mass by leading bits of the weight
  std::vector<Candidate> candidates_;
  std::vector<Candidate> order_;
};

}  // namespace erne
