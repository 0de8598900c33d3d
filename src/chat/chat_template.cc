// Rendering: the request into the template's variables, the template's text into a PromptText.
#include "chat/chat_template.h"

#include <chrono>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "chat/content_format.h"
#include "chat/conversation.h"
#include "chat/jinja/interpreter.h"
#include "chat/jinja/objects.h"
#include "chat/jinja/parser.h"
#include "chat/jinja/unicode.h"
#include "chat/template_files.h"

namespace erne {
namespace {

constexpr size_t kMaxSource = size_t{4} << 20;
constexpr size_t kMaxKwargs = 256;  // variables are looked up one after the other

struct Parsed {
  std::string name;
  std::string source;
  jinja::Body body;
  bool takes_parts = false;  ///< content may be a list of parts

  Parsed(std::string_view text, std::string_view what) : name(what), source(text) {
    if (text.size() > kMaxSource) {
      fail(Code::kInvalidArgument, "{}: a chat template of {} bytes; at most {} are accepted", what,
           text.size(), kMaxSource);
    }
    body = jinja::parse(source, name);
    takes_parts = jinja::iterates_content(body);
  }
};

int64_t now_seconds() {
  using std::chrono::system_clock;
  return static_cast<int64_t>(system_clock::to_time_t(system_clock::now()));
}

// Everything behind the tag goes, and the tag. If the template trimmed the tag's blank it trimmed
// the message, too: then white space before the tag is the message's own and goes as well (as
// transformers does).
void cut_at_tag(PromptText& prompt, std::string_view continued) {
  const std::string_view bare = kContinueTag.substr(0, kContinueTag.size() - 1);
  const jinja::unicode::Span span = jinja::unicode::strip(continued, true, true);
  const std::string_view message = continued.substr(span.begin, span.end - span.begin);
  const size_t tag = prompt.text.rfind(bare);
  if (tag == std::string::npos || prompt.text.find(message) == std::string::npos) {
    fail(Code::kInvalidArgument,
         "continue_final_message: the chat template does not show the final message unchanged");
  }
  size_t end = tag;
  if (prompt.text.compare(tag, kContinueTag.size(), kContinueTag) != 0) {
    end = jinja::unicode::strip(std::string_view(prompt.text).substr(0, tag), false, true).end;
  }
  prompt.text.resize(end);
  while (!prompt.untrusted.empty() && prompt.untrusted.back().begin >= end)
    prompt.untrusted.pop_back();
  if (!prompt.untrusted.empty())
    prompt.untrusted.back().end = std::min(prompt.untrusted.back().end, end);
}

}  // namespace

struct ChatTemplate::State {
  Parsed main;
  std::optional<Parsed> for_tools;  ///< what a checkpoint calls "tool_use"
  std::map<std::string, std::string> special_tokens;

  PromptText render(const Parsed& chosen, const ChatInput& input, bool fill_content,
                    bool& undefined_used) const;
  void add_variables(jinja::Runtime& runtime, jinja::Scope& scope, const ChatInput& input) const;
};

void ChatTemplate::State::add_variables(jinja::Runtime& runtime, jinja::Scope& scope,
                                        const ChatInput& input) const {
  using jinja::None;
  using jinja::Value;
  add_globals(runtime, scope, now_seconds);
  for (const auto& [name, token] : special_tokens) scope.set(name, Value::text(token));
  if (input.kwargs != nullptr && !input.kwargs->is_null()) {
    if (!input.kwargs->is_object())
      fail(Code::kInvalidArgument, "chat_template_kwargs must be an object");
    if (input.kwargs->size() > kMaxKwargs) {
      fail(Code::kInvalidArgument, "chat_template_kwargs may have at most {} entries, got {}",
           kMaxKwargs, input.kwargs->size());
    }
    for (const auto& [name, value] : input.kwargs->items())
      scope.set(name, from_json(runtime, value));
  }
  for (const char* name : {"messages", "tools", "documents", "add_generation_prompt"}) {
    if (input.kwargs != nullptr && input.kwargs->is_object() && input.kwargs->contains(name)) {
      fail(Code::kInvalidArgument, "chat_template_kwargs must not set '{}'", name);
    }
  }
  const bool tools = input.tools != nullptr && !input.tools->is_null();
  scope.set("tools", tools ? from_json(runtime, *input.tools) : Value(None{}));
  scope.set("documents", None{});
  scope.set("add_generation_prompt", input.add_generation_prompt && !input.continue_final_message);
}

PromptText ChatTemplate::State::render(const Parsed& chosen, const ChatInput& input,
                                       bool fill_content, bool& undefined_used) const {
  ConversationOptions options;
  options.join_parts = !chosen.takes_parts;
  options.fill_content = fill_content;
  options.mark_the_end = input.continue_final_message;
  const OrderedJson messages = prepare_messages(*input.messages, options);
  jinja::Runtime runtime(chosen.name, {});
  const auto globals = std::make_shared<jinja::Scope>();
  add_variables(runtime, *globals, input);
  globals->set("messages", conversation_value(runtime, messages));
  PromptText prompt;
  try {
    prompt = jinja::Interpreter(runtime).render(chosen.body, globals).release();
  } catch (const Error&) {
    undefined_used = runtime.undefined_used();
    throw;
  }
  if (input.continue_final_message) {
    std::string_view continued = continued_text(messages);
    continued.remove_suffix(kContinueTag.size());
    cut_at_tag(prompt, continued);
  }
  return prompt;
}

ChatTemplate::ChatTemplate(std::unique_ptr<State> state) : state_(std::move(state)) {}
ChatTemplate::~ChatTemplate() = default;

std::unique_ptr<ChatTemplate> ChatTemplate::parse(std::string_view source, std::string_view name) {
  auto state = std::make_unique<State>(State{Parsed(source, name), std::nullopt, {}});
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(state)));
}

std::unique_ptr<ChatTemplate> ChatTemplate::load(const std::filesystem::path& folder) {
  const TemplateFiles files = read_template_files(folder);
  auto state = std::make_unique<State>(
      State{Parsed(files.source, files.name), std::nullopt, files.special_tokens});
  if (!files.tool_source.empty())
    state->for_tools.emplace(files.tool_source, files.name + " (tool_use)");
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(state)));
}

PromptText ChatTemplate::render(const ChatInput& input) const {
  if (input.messages == nullptr) fail(Code::kInvalidArgument, "messages are missing");
  const bool tools = input.tools != nullptr && !input.tools->is_null();
  const Parsed& chosen = tools && state_->for_tools ? *state_->for_tools : state_->main;
  bool undefined_used = false;
  try {
    return state_->render(chosen, input, false, undefined_used);
  } catch (const Error&) {
    if (!undefined_used) throw;
  }
  // Templates that add strings with '+' fail on an assistant message whose content is null, which
  // is how clients send tool calls back. An empty string is what such a template means; if that is
  // not it, its error stands.
  return state_->render(chosen, input, true, undefined_used);
}

const std::string& ChatTemplate::name() const { return state_->main.name; }
const std::string& ChatTemplate::source() const { return state_->main.source; }

}  // namespace erne
