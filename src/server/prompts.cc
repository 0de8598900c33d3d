#include "server/prompts.h"

#include <algorithm>

#include "base/json.h"
#include "server/api_error.h"
#include "server/fields.h"

namespace erne::server {

void check_text_fits(std::string_view text, const std::string& path, const Service& service) {
  if (service.options.allow_auto_truncate) return;
  const auto context = static_cast<uint64_t>(service.backend.load()->context_length());
  const size_t longest = std::max<size_t>(1, service.longest_token_bytes);
  if (text.size() / longest <= context) return;
  throw RequestError(
      Code::kInvalidArgument, path,
      fmt::format("This model's maximum context length is {} tokens, but the prompt has {} bytes "
                  "of text, which is more than {} tokens. Shorten the prompt.",
                  context, text.size(), text.size() / longest),
      "context_length_exceeded");
}

void check_text_fits(const OrderedJson& prompt, const std::string& path, const Service& service) {
  if (prompt.is_string()) {
    check_text_fits(std::string_view(prompt.get_ref<const std::string&>()), path, service);
  }
  if (!prompt.is_array()) return;
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (!prompt[i].is_string()) continue;
    check_text_fits(std::string_view(prompt[i].get_ref<const std::string&>()),
                    fmt::format("{}.{}", path, i), service);
  }
}

std::vector<int32_t> encode_raw(const std::string& text, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = tokenizer.encode(text);
  if (tokenizer.add_bos() && tokenizer.bos_id()) ids.insert(ids.begin(), *tokenizer.bos_id());
  return ids;
}

void check_choices(size_t num_prompts, size_t num_choices, const std::string& field) {
  if (num_choices <= kMaxChoices) return;
  refuse_field(field, "{} prompts ask for {} choices or more; prompts times n may be at most {}",
               num_prompts, num_choices, kMaxChoices);
}

Prompts read_prompts(const OrderedJson& value, const std::string& path, const Tokenizer& tokenizer,
                     int64_t vocab_size) {
  Prompts prompts;
  if (value.is_string()) {
    prompts.ids.push_back(encode_raw(value.get_ref<const std::string&>(), tokenizer));
    return prompts;
  }
  if (!value.is_array() || value.empty()) {
    refuse_field(path, "must be a string, token ids, or a non-empty list of these, got {}",
                 shown(value));
  }
  if (value[0].is_number()) {
    prompts.ids.push_back(read_ids(value, path, vocab_size));
    return prompts;
  }
  prompts.batch = true;
  if (value.size() > kMaxPrompts)
    refuse_field(path, "must have at most {} prompts, got {}", kMaxPrompts, value.size());
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string element = fmt::format("{}.{}", path, i);
    if (value[i].is_string()) {
      prompts.ids.push_back(encode_raw(value[i].get_ref<const std::string&>(), tokenizer));
    } else {
      prompts.ids.push_back(read_ids(value[i], element, vocab_size));
    }
    if (prompts.ids.back().empty()) refuse_field(element, "has no tokens; at least one is needed");
  }
  return prompts;
}

}  // namespace erne::server
