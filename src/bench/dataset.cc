#include "bench/dataset.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "chat/chat_template.h"
#include "token/tokenizer.h"

namespace erne::bench {
namespace {

constexpr size_t kMaxDatasetBytes = size_t{4} << 30;
constexpr std::string_view kAssistantSuffix = "Assistant:";

struct Turns {
  std::string first, second;
};

std::string turn_text(const Json& turn, const std::filesystem::path& path) {
  for (const char* key : {"content", "value"}) {
    if (!turn.is_object() || !turn.contains(key)) continue;
    if (!turn[key].is_string()) {
      fail(Code::kInvalidArgument, "{}: a turn's \"{}\" must be a string, got {}", path.string(),
           key, turn[key].type_name());
    }
    return turn[key].get<std::string>();
  }
  fail(Code::kInvalidArgument, "{}: a conversation turn needs \"content\" or \"value\", got {}",
       path.string(), dump_json(turn).substr(0, 100));
}

// The first two turns, nothing for shorter conversations.
std::optional<Turns> first_turns(const Json& item, const std::filesystem::path& path) {
  if (!item.is_object()) {
    fail(Code::kInvalidArgument, "{}: every conversation must be an object, got {}", path.string(),
         item.type_name());
  }
  for (const char* key : {"conversations", "conversation"}) {
    if (!item.contains(key)) continue;
    const Json& turns = item[key];
    if (!turns.is_array() || turns.size() < 2) return std::nullopt;
    return Turns{turn_text(turns[0], path), turn_text(turns[1], path)};
  }
  return std::nullopt;
}

std::vector<Turns> read_json_array(const std::filesystem::path& path) {
  const Json items = parse_json(read_file(path, kMaxDatasetBytes), path.string());
  if (!items.is_array()) {
    fail(Code::kInvalidArgument,
         "{} must hold a JSON array of conversations, got {}; for JSON lines use --dataset-name "
         "custom",
         path.string(), items.type_name());
  }
  std::vector<Turns> all;
  for (const Json& item : items) {
    if (auto turns = first_turns(item, path)) all.push_back(std::move(*turns));
  }
  return all;
}

std::vector<Turns> read_json_lines(const std::filesystem::path& path) {
  const std::string content = read_file(path, kMaxDatasetBytes);
  std::vector<Turns> all;
  size_t line_number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view line = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Json item = parse_json(line, fmt::format("{} line {}", path.string(), line_number));
    if (auto turns = first_turns(item, path)) all.push_back(std::move(*turns));
  }
  return all;
}

void set_text(BenchRequest& request, const DatasetOptions& options, const Tokenizer& tokenizer) {
  if (options.decode_prompt)
    request.text = tokenizer.decode(request.ids, /*skip_special_tokens=*/false);
}

std::vector<BenchRequest> random_texts(const DatasetOptions& options, const Tokenizer& tokenizer,
                                       PythonRandom& order, const std::vector<int>& input_lens,
                                       const std::vector<int>& output_lens) {
  std::vector<Turns> conversations = read_json_array(options.path);
  order.shuffle(conversations);
  std::vector<BenchRequest> requests;
  for (const Turns& turns : conversations) {
    const size_t i = requests.size();
    if (i == input_lens.size()) break;
    const std::vector<int32_t> ids = tokenizer.encode(turns.first);
    if (ids.empty()) continue;
    BenchRequest request;
    request.prompt_len = input_lens[i];
    request.output_len = output_lens[i];
    request.ids.resize(static_cast<size_t>(input_lens[i]));
    for (size_t j = 0; j < request.ids.size(); ++j) request.ids[j] = ids[j % ids.size()];
    set_text(request, options, tokenizer);
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<BenchRequest> random_ids(const DatasetOptions& options, const Tokenizer& tokenizer,
                                     NumpyRandom& numbers, const std::vector<int>& input_lens,
                                     const std::vector<int>& output_lens) {
  const int64_t vocab = tokenizer.vocab_size();
  std::vector<int64_t> offsets(input_lens.size());
  for (int64_t& offset : offsets) offset = numbers.randint(0, vocab);
  std::vector<BenchRequest> requests(input_lens.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    BenchRequest& request = requests[i];
    request.prompt_len = input_lens[i];
    request.output_len = output_lens[i];
    request.ids.resize(static_cast<size_t>(input_lens[i]));
    for (size_t j = 0; j < request.ids.size(); ++j) {
      request.ids[j] = static_cast<int32_t>((offsets[i] + static_cast<int64_t>(i + j)) % vocab);
    }
    set_text(request, options, tokenizer);
  }
  return requests;
}

std::vector<BenchRequest> random_requests(const DatasetOptions& options, const Tokenizer& tokenizer,
                                          NumpyRandom& numbers, PythonRandom& order) {
  check_dataset(options.kind, options.path);
  const auto input_lens = random_lengths(numbers, options.random_input_len,
                                         options.random_range_ratio, options.num_prompts);
  const auto output_lens = random_lengths(numbers, options.random_output_len,
                                          options.random_range_ratio, options.num_prompts);
  if (options.kind == DatasetKind::kRandom)
    return random_texts(options, tokenizer, order, input_lens, output_lens);
  return random_ids(options, tokenizer, numbers, input_lens, output_lens);
}

std::string with_suffix(std::string prompt, const std::string& suffix) {
  if (suffix.empty()) return prompt;
  if (prompt.ends_with(kAssistantSuffix)) prompt.resize(prompt.size() - kAssistantSuffix.size());
  return prompt + suffix + std::string(kAssistantSuffix);
}

// As the server will see it: one user message, the BOS text removed because the server's tokenizer
// adds its own.
std::string with_template(const std::string& prompt, const ChatTemplate& chat_template,
                          const Tokenizer& tokenizer) {
  const OrderedJson messages = OrderedJson::array({{{"role", "user"}, {"content", prompt}}});
  ChatInput input;
  input.messages = &messages;
  std::string text = chat_template.render(input).text;
  if (!tokenizer.bos_id()) return text;
  const std::string bos = tokenizer.token_name(*tokenizer.bos_id());
  for (size_t at = text.find(bos); !bos.empty() && at != std::string::npos;
       at = text.find(bos, at)) {
    text.erase(at, bos.size());
  }
  return text;
}

std::vector<BenchRequest> conversation_requests(const DatasetOptions& options,
                                                const Tokenizer& tokenizer, PythonRandom& order) {
  check_dataset(options.kind, options.path);
  if (options.output_len && *options.output_len < 4) {
    fail(Code::kInvalidArgument, "--sharegpt-output-len must be at least 4, got {}",
         *options.output_len);
  }
  std::vector<Turns> conversations = options.kind == DatasetKind::kCustom
                                         ? read_json_lines(options.path)
                                         : read_json_array(options.path);
  order.shuffle(conversations);
  std::vector<BenchRequest> requests;
  for (Turns& turns : conversations) {
    if (requests.size() == static_cast<size_t>(options.num_prompts)) break;
    BenchRequest request;
    request.text = with_suffix(std::move(turns.first), options.prompt_suffix);
    if (options.chat_template != nullptr)
      request.text = with_template(request.text, *options.chat_template, tokenizer);
    request.ids = tokenizer.encode(request.text);
    request.prompt_len = static_cast<int>(request.ids.size());
    request.output_len = options.output_len
                             ? *options.output_len
                             : static_cast<int>(tokenizer.encode(turns.second).size());
    if (request.prompt_len < 2 || request.output_len < 2) continue;
    if (options.context_len && request.prompt_len + request.output_len > *options.context_len)
      continue;
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace

DatasetKind parse_dataset_kind(std::string_view name) {
  for (const DatasetKind kind : {DatasetKind::kRandom, DatasetKind::kRandomIds,
                                 DatasetKind::kShareGpt, DatasetKind::kCustom}) {
    if (dataset_name(kind) == name) return kind;
  }
  constexpr std::array<std::string_view, 4> kLater = {"generated-shared-prefix", "mmmu", "image",
                                                      "mooncake"};
  if (std::find(kLater.begin(), kLater.end(), name) != kLater.end()) {
    fail(Code::kUnsupported,
         "dataset {} is not built yet; use random, random-ids, sharegpt or custom", name);
  }
  fail(Code::kInvalidArgument, "unknown dataset \"{}\"; use random, random-ids, sharegpt or custom",
       name);
}

std::string_view dataset_name(DatasetKind kind) {
  switch (kind) {
    case DatasetKind::kRandom:
      return "random";
    case DatasetKind::kRandomIds:
      return "random-ids";
    case DatasetKind::kShareGpt:
      return "sharegpt";
    case DatasetKind::kCustom:
      return "custom";
  }
  return "";
}

void check_dataset(DatasetKind kind, const std::filesystem::path& path) {
  if (kind == DatasetKind::kRandomIds) return;
  if (path.empty() && kind == DatasetKind::kCustom) {
    fail(Code::kInvalidArgument,
         "--dataset-name custom needs --dataset-path FILE.jsonl (one conversation a line)");
  }
  if (path.empty()) {
    fail(Code::kInvalidArgument,
         "--dataset-name {} needs --dataset-path with a ShareGPT file "
         "(ShareGPT_V3_unfiltered_cleaned_split.json of the dataset "
         "anon8231489123/ShareGPT_Vicuna_unfiltered); without one use --dataset-name random-ids",
         dataset_name(kind));
  }
  if (!std::filesystem::exists(path))
    fail(Code::kNotFound, "--dataset-path {}: no such file", path.string());
}

std::vector<BenchRequest> make_dataset(const DatasetOptions& options, const Tokenizer& tokenizer,
                                       NumpyRandom& numbers, PythonRandom& order) {
  if (options.num_prompts < 1) {
    fail(Code::kInvalidArgument, "--num-prompts must be at least 1, got {}", options.num_prompts);
  }
  const bool random =
      options.kind == DatasetKind::kRandom || options.kind == DatasetKind::kRandomIds;
  std::vector<BenchRequest> requests = random ? random_requests(options, tokenizer, numbers, order)
                                              : conversation_requests(options, tokenizer, order);
  if (requests.empty()) {
    fail(Code::kInvalidArgument,
         "{} holds no usable conversation (at least two turns, at least two tokens each, within "
         "--sharegpt-context-len)",
         options.path.string());
  }
  if (requests.size() < static_cast<size_t>(options.num_prompts)) {
    log::warn("{} gives only {} of {} requests", options.path.string(), requests.size(),
              options.num_prompts);
  }
  return requests;
}

}  // namespace erne::bench
