#include "cli/calibration_text.h"

#include <algorithm>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "chat/chat_template.h"
#include "cli/prompt_input.h"
#include "cli/text_flags.h"
#include "token/tokenizer.h"

namespace erne::cli {
namespace {

// Tokenizes records; the chat template is read when the first conversation comes.
class Records {
 public:
  explicit Records(const std::filesystem::path& model)
      : model_(model), tokenizer_(Tokenizer::load(model)) {}

  std::vector<int32_t> text(std::string_view text, const std::string& where) const {
    check_text(text, where);
    std::vector<int32_t> ids = tokenizer_->encode_plain(text);
    if (tokenizer_->add_bos() && tokenizer_->bos_id())
      ids.insert(ids.begin(), *tokenizer_->bos_id());
    return ids;
  }

  std::vector<int32_t> line(std::string_view line, const std::string& where) {
    const OrderedJson record = parse_ordered_json(line, where);
    const bool has_text = record.is_object() && record.contains("text");
    const bool has_messages = record.is_object() && record.contains("messages");
    if (has_text == has_messages) refuse(record, where);
    if (has_messages) return conversation(record, where);
    if (!record["text"].is_string()) {
      fail(Code::kInvalidArgument, "{}: \"text\" must be a string, got {}", where,
           record["text"].type_name());
    }
    return text(record["text"].get_ref<const std::string&>(), where);
  }

 private:
  [[noreturn]] static void refuse(const OrderedJson& record, const std::string& where) {
    std::string keys = record.is_object() ? "an object with" : record.type_name();
    if (record.is_object()) {
      for (const auto& [key, value] : record.items()) keys += fmt::format(" \"{}\"", key);
      if (record.empty()) keys += "out keys";
    }
    fail(Code::kInvalidArgument,
         "{}: each line must be an object with either \"text\" or \"messages\"; this is {}", where,
         keys.substr(0, 200));
  }

  std::vector<int32_t> conversation(const OrderedJson& record, const std::string& where) {
    check_messages(record["messages"], where);
    ChatInput input;
    input.messages = &record["messages"];
    if (record.contains("tools") && !record["tools"].is_null()) {
      input.tools = &record["tools"];
      if (!input.tools->is_array())
        fail(Code::kInvalidArgument, "{}: \"tools\" must be a list, got {}", where,
             input.tools->type_name());
    }
    input.add_generation_prompt = false;
    if (template_ == nullptr) template_ = ChatTemplate::load(model_);
    return tokenizer_->encode(template_->render(input));
  }

  std::filesystem::path model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> template_;
};

void cut(const std::vector<int32_t>& ids, int64_t tokens,
         std::vector<std::vector<int32_t>>& pieces) {
  const auto step = static_cast<size_t>(tokens);
  for (size_t at = 0; at < ids.size(); at += step) {
    const auto begin = ids.begin() + static_cast<ptrdiff_t>(at);
    pieces.emplace_back(begin, begin + static_cast<ptrdiff_t>(std::min(step, ids.size() - at)));
  }
}

}  // namespace

std::vector<std::vector<int32_t>> read_calibration_text(const CalibrationTextFlags& flags,
                                                        const std::filesystem::path& model) {
  const std::string content = read_file(flags.file);
  const std::string where = "--calibration " + flags.file;
  if (content.empty()) fail(Code::kInvalidArgument, "{}: the file is empty", where);
  Records records(model);
  std::vector<std::vector<int32_t>> pieces;
  if (flags.file.ends_with(".jsonl")) {
    each_line(content, where, [&](std::string_view line, const std::string& place) {
      cut(records.line(line, place), flags.tokens, pieces);
    });
    if (pieces.empty()) fail(Code::kInvalidArgument, "{}: no line has text", where);
  } else {
    cut(records.text(content, where), flags.tokens, pieces);
  }
  const auto wanted = static_cast<size_t>(flags.samples);
  if (pieces.size() <= wanted) return pieces;
  std::vector<std::vector<int32_t>> samples;
  for (size_t i = 0; i < wanted; ++i) samples.push_back(pieces[i * pieces.size() / wanted]);
  return samples;
}

}  // namespace erne::cli
