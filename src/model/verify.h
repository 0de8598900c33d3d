// A model held against goldens of the reference implementation: the check behind `erne verify` and
// the model tests.
//
// Golden files: tests/goldens/README.md. Prompts run in chunks and ragged batches over a paged
// cache whose blocks are shuffled, so paging and chunking are part of what is proven.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/text_model.h"

namespace erne {

struct GoldenSequence {
  std::string name;
  std::vector<int32_t> ids;
  std::vector<float> logits;                 ///< [T, V]; empty when the golden has ids only
  std::vector<int32_t> greedy;               ///< greedy continuation
  std::map<int, std::vector<float>> hidden;  ///< layer -> residual stream entering it, [T, H]
};

struct Golden {
  std::vector<GoldenSequence> sequences;
  /// Mean |error| of the reference's own bfloat16 run over all tokens (bf16.json beside the
  /// golden), where known.
  std::optional<double> reference_bf16_error;
};

/// Reads golden.safetensors (ids.K, logits.K, greedy.K, hidden.K.L) or a JSON list with prompt_ids
/// and completion_ids. Throws Error for shapes that contradict the config and ids outside the
/// vocabulary.
Golden read_golden(const std::filesystem::path& file, const TextConfig& config);

struct VerifyOptions {
  int64_t chunk = 0;  ///< prompt tokens per sequence and step; 0: the whole prompt
  int batch = 1;      ///< sequences side by side
  int block_tokens = 16;
  /// Of float32, as a share of the largest value. A GPU is allowed ten times as much: its sums run
  /// in other orders than the bound was measured with.
  double f32_bound = 5e-6;
};

struct SequenceReport {
  std::string name;
  int64_t tokens = 0;
  double max_logit = 0;  ///< largest |logit| of the golden
  double max_error = 0;
  double mean_error = 0;
  double kl = 0;  ///< mean KL(golden || ours), nats
  double top1 = 0;
  double hidden_error = 0;  ///< largest |error| / largest |value| over the layers given
  int64_t greedy_tokens = 0;
  int64_t greedy_equal = 0;  ///< ids equal before the first difference
  double divergence_gap =
      0;  ///< our logit gap between our token and the golden's at the first difference
  bool has_logits = false;
  bool finite = true;  ///< every logit seen, of the prompt and of the continuation
};

struct VerifyReport {
  std::vector<SequenceReport> sequences;
  std::vector<std::string> broken;  ///< bounds that do not hold, in words; empty means passed
};

/// Bounds: every logit is finite. float32: max error <= f32_bound of the largest |logit|, and of
/// the largest value of each hidden state given; identical greedy ids. bfloat16: mean error over
/// all tokens <= 1.2 x the reference's own (or 0.5 % of the largest |logit| where that is unknown);
/// greedy may first differ only where the two logits are within 5 % of the largest |logit|.
VerifyReport verify(const TextModel& model, Device& device, const Golden& golden,
                    const VerifyOptions& options);

}  // namespace erne
