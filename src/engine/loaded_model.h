// Everything the engine loads once: checkpoint, tokenizer, device, weights, KV pool.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "engine/runner.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/text_model.h"
#include "token/tokenizer.h"

namespace erne {

struct LoadedModel {
  TextConfig config;
  GenerationConfig generation;
  std::vector<int32_t> eos_ids;          ///< see find_eos_ids
  std::unique_ptr<Tokenizer> tokenizer;  ///< null with skip_tokenizer
  std::unique_ptr<Device> device;        ///< null for "null"
  std::unique_ptr<TextModel> model;      ///< null for "null"
  std::unique_ptr<Runner> runner;
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t workspace_bytes = 0;  ///< of the usual step
  uint64_t free_bytes = 0;       ///< what all of this leaves, once the pool is in use
  double load_s = 0;
};

/// The ids that end a text, sorted: those of the generation config and the tokenizer, and the ends
/// of a turn that ERNIE's post-trained models write but their files do not list (spec text.md 7.1,
/// serving.md 6.1). A vocabulary without these tokens, or where they are plain text, adds none.
std::vector<int32_t> find_eos_ids(const GenerationConfig& generation, const Tokenizer* tokenizer,
                                  int64_t vocab_size);

/// Loads options.model_path and fills in what options leave open: dtype, num_threads,
/// context_length, max_total_tokens. Throws Error as the loaders do; kOutOfMemory names bytes and
/// flags.
LoadedModel load_model(EngineOptions& options);

}  // namespace erne
