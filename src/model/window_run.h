// The windows of a text through one model, or through several in lockstep; whoever scores sees the
// logits a step at a time, so memory does not grow with the text.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "model/text_model.h"
#include "model/text_windows.h"

namespace erne {

struct WindowRunOptions {
  /// Tokens per window and step: a step's logits are batch x chunk x V floats.
  int64_t chunk = 512;
  int batch = 1;  ///< windows side by side, at most 1024
  int block_tokens = 16;
  int num_threads = 0;  ///< for the sums over logits; 0: all cores
  bool show_progress = false;
};

/// A row of logits that predicts `target`, which is scored token number `place` (counted over
/// windows in order).
struct ScoredRow {
  int64_t place = 0;
  int32_t target = 0;
};

/// rows: of this step; logits: [rows.size(), V] of each model, valid during the call.
using SeeRows =
    std::function<void(std::span<const ScoredRow> rows, std::span<const Tensor> logits)>;

/// Every scored token is seen once. The logits do not depend on chunk, batch or num_threads (batch
/// invariance). Throws Error{kInvalidArgument} for options out of range, models of different
/// vocabularies, windows beyond a model's positions, and ids outside the vocabulary.
void run_windows(std::span<const TextModel* const> models, Device& device, const TextWindows& text,
                 const WindowRunOptions& options, const SeeRows& see);

/// Bytes of KV cache and workspace that run_windows needs for one model.
uint64_t window_run_bytes(const TextModel& model, Device& device, const TextWindows& text,
                          const WindowRunOptions& options);

}  // namespace erne
