// The requests of a benchmark: prompts and lengths, drawn exactly as the reference benchmark draws
// them (spec bench.md 1.4 and 1.5). Used by `erne bench serving` and `erne bench offline`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/random_streams.h"

namespace erne {
class Tokenizer;
class ChatTemplate;
}  // namespace erne

namespace erne::bench {

enum class DatasetKind {
  kRandom,     ///< random lengths, texts of a ShareGPT file
  kRandomIds,  ///< random lengths, rising token ids
  kShareGpt,   ///< first two turns of a ShareGPT file
  kCustom,     ///< JSON lines with "conversations" of {"content"} turns
};

/// "random", "random-ids", "sharegpt", "custom". Throws Error{kUnsupported} for the reference's
/// other names and Error{kInvalidArgument} for unknown ones.
DatasetKind parse_dataset_kind(std::string_view name);
std::string_view dataset_name(DatasetKind kind);

/// Throws Error{kInvalidArgument} where `kind` needs a file and none is named, Error{kNotFound}
/// where it is not there: before anything slow begins.
void check_dataset(DatasetKind kind, const std::filesystem::path& path);

struct DatasetOptions {
  DatasetKind kind = DatasetKind::kRandomIds;
  std::filesystem::path path;  ///< required for all but kRandomIds
  int num_prompts = 1000;
  int random_input_len = 1024;
  int random_output_len = 1024;
  double random_range_ratio = 0.0;
  std::optional<int>
      output_len;  ///< --sharegpt-output-len: instead of the length of the second turn
  std::optional<int> context_len;  ///< --sharegpt-context-len: drop longer prompt + output
  std::string prompt_suffix;
  bool decode_prompt = true;  ///< false (--tokenize-prompt): `text` of random prompts stays empty
  /// Needed for --apply-chat-template, else null: wraps prompts of kShareGpt and kCustom into one
  /// user message.
  const ChatTemplate* chat_template = nullptr;
};

struct BenchRequest {
  std::string text;  ///< the prompt as text
  std::vector<int32_t>
      ids;  ///< the prompt as token ids; for random prompts these have exactly the wanted length
  int prompt_len = 0;  ///< wanted prompt tokens (not a re-count of `text`)
  int output_len = 0;  ///< wanted answer tokens
};

/// Draws all lengths from `numbers`, shuffles with `order`. Fewer requests than asked for come back
/// when the file holds too few usable conversations (at least one, else Error{kInvalidArgument}).
/// Throws Error for unreadable files, naming them.
std::vector<BenchRequest> make_dataset(const DatasetOptions& options, const Tokenizer& tokenizer,
                                       NumpyRandom& numbers, PythonRandom& order);

}  // namespace erne::bench
