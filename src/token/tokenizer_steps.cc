#include "token/tokenizer_steps.h"

#include <functional>
#include <utility>

#include "base/utf8.h"

namespace erne {
namespace {

// Calls `each` for the steps of a Sequence (nested ones flattened) or for the one step that
// `top[key]` is.
void for_each_step(const JsonFields& step, const char* list_key,
                   const std::function<void(const JsonFields&)>& each) {
  if (step.text("type") != "Sequence") return each(step);
  step.only({"type", list_key});
  const Json& list = step.array(list_key);
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonFields inner(list[i], step.file(), fmt::format("{}[{}]", step.where(), i));
    for_each_step(inner, list_key, each);  // the JSON parser limits the depth
  }
}

[[noreturn]] void refuse(const JsonFields& step, const char* built) {
  step.unsupported("type \"{}\" is not built ({} are)", step.text("type"), built);
}

// {"String": …} or {"Regex": …}.
std::variant<std::string, Regex> read_pattern(const JsonFields& step) {
  const JsonFields pattern = step.object("pattern");
  pattern.only({"String", "Regex"});
  if (pattern.find("Regex") != nullptr) {
    try {
      return Regex(pattern.text("Regex"));
    } catch (const Error& e) {
      pattern.unsupported("{}", e.what());
    }
  }
  std::string text = pattern.text("String");
  if (text.empty()) pattern.corrupt("\"String\" is empty");
  return text;
}

std::string read_one_char(const JsonFields& step, const char* key, std::string otherwise) {
  std::string text = step.text_or(key, std::move(otherwise));
  if (utf8::length(text) != 1) step.corrupt("\"{}\" must be one character, got \"{}\"", key, text);
  return text;
}

std::string read_replace_pattern(const JsonFields& step) {
  step.only({"type", "pattern", "content"});
  auto pattern = read_pattern(step);
  if (std::holds_alternative<Regex>(pattern))
    step.unsupported("Replace with a Regex pattern is not built (String is)");
  return std::get<std::string>(std::move(pattern));
}

void read_normalizer(const JsonFields& step, Normalizer& normalizer) {
  const std::string type = step.text("type");
  if (type == "Replace") {
    std::string pattern = read_replace_pattern(step);
    normalizer.add(Normalizer::Replace{std::move(pattern), step.text("content")});
  } else if (type == "Prepend") {
    step.only({"type", "prepend"});
    normalizer.add(Normalizer::Prepend{step.text("prepend")});
  } else {
    refuse(step, "Sequence, Replace, Prepend");
  }
}

PreTokenizer::Behaviour read_behaviour(const JsonFields& step) {
  using Behaviour = PreTokenizer::Behaviour;
  const std::string name = step.text("behavior");
  if (name == "Removed") return Behaviour::kRemoved;
  if (name == "Isolated") return Behaviour::kIsolated;
  if (name == "MergedWithPrevious") return Behaviour::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behaviour::kMergedWithNext;
  if (name == "Contiguous") return Behaviour::kContiguous;
  step.corrupt("unknown behavior \"{}\"", name);
}

PreTokenizer::Prepend read_prepend_scheme(const JsonFields& step) {
  // Files of before 2024 say add_prefix_space, which was "always" or "never".
  const std::string name =
      step.text_or("prepend_scheme", step.flag_or("add_prefix_space", true) ? "always" : "never");
  if (name == "always") return PreTokenizer::Prepend::kAlways;
  if (name == "first") return PreTokenizer::Prepend::kFirst;
  if (name == "never") return PreTokenizer::Prepend::kNever;
  step.corrupt("unknown prepend_scheme \"{}\"", name);
}

void read_pre_tokenizer(const JsonFields& step, PreTokenizer& out) {
  const std::string type = step.text("type");
  if (out.byte_level()) step.unsupported("{} after ByteLevel is not built", type);
  if (type == "ByteLevel") {
    step.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    out.add(PreTokenizer::ByteLevel{step.flag_or("add_prefix_space", true),
                                    step.flag_or("use_regex", true)});
  } else if (type == "Digits") {
    step.only({"type", "individual_digits"});
    out.add(PreTokenizer::Digits{step.flag_or("individual_digits", false)});
  } else if (type == "Split") {
    step.only({"type", "pattern", "behavior", "invert"});
    out.add(PreTokenizer::Split{read_pattern(step), read_behaviour(step),
                                step.flag_or("invert", false)});
  } else if (type == "Metaspace") {
    step.only({"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
    out.add(PreTokenizer::Metaspace{read_one_char(step, "replacement", "\u2581"),
                                    read_prepend_scheme(step), step.flag_or("split", true)});
  } else {
    refuse(step, "Sequence, ByteLevel, Digits, Split, Metaspace");
  }
}

// What decoder steps have come so far; their order decides what they mean.
struct DecoderOrder {
  bool fused = false;
  bool complete = false;  // ByteLevel or Metaspace: the whole of a decoder
};

void read_decoder(const JsonFields& step, BpeParts& parts, DecoderOrder& order) {
  const std::string type = step.text("type");
  const bool first =
      !order.fused && !parts.token_text.byte_pieces && parts.token_text.replace.empty();
  if (order.complete && type != "Fuse")
    step.unsupported("{} after ByteLevel or Metaspace is not built", type);
  if (type == "Replace" && !order.fused && !parts.token_text.byte_pieces) {
    std::string pattern = read_replace_pattern(step);
    parts.token_text.replace.emplace_back(std::move(pattern), step.text("content"));
  } else if (type == "ByteFallback" && !order.fused) {
    step.only({"type"});
    parts.token_text.byte_pieces = true;
    parts.decode.bytes = DecodeRules::Bytes::kRuns;
  } else if (type == "Fuse") {
    step.only({"type"});
    order.fused = true;
  } else if (type == "Strip" && order.fused && parts.decode.strip_start.empty()) {
    step.only({"type", "content", "start", "stop"});
    if (step.number("stop", INT32_MAX) != 0)
      step.unsupported("Strip at the end (stop > 0) is not built");
    parts.decode.strip_start = read_one_char(step, "content", " ");
    parts.decode.strip_count = static_cast<int>(step.number("start", INT32_MAX));
  } else if (type == "ByteLevel" && first) {
    step.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    parts.token_text.byte_level = true;
    order.complete = true;
  } else if (type == "Metaspace" && first) {
    step.only({"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
    const std::string replacement = read_one_char(step, "replacement", "\u2581");
    parts.token_text.replace.emplace_back(replacement, " ");
    if (read_prepend_scheme(step) != PreTokenizer::Prepend::kNever)
      parts.decode.drop_in_first = replacement;
    order.complete = true;
  } else {
    step.unsupported(
        "type \"{}\" is not built in this place (Replace, ByteFallback, Fuse, Strip in this order "
        "are, or "
        "ByteLevel, or Metaspace)",
        type);
  }
}

std::string template_token(const JsonFields& item) {
  item.only({"SpecialToken", "Sequence"});
  if (item.find("SpecialToken") == nullptr) return "";
  return item.object("SpecialToken").text("id");
}

// Only what comes before the one sequence matters: a single token there is BOS.
void read_template(const JsonFields& step, BpeParts& parts) {
  const Json& items = step.array("single");
  bool after_text = false;
  for (size_t i = 0; i < items.size(); ++i) {
    const JsonFields item(items[i], step.file(), fmt::format("{}.single[{}]", step.where(), i));
    const std::string token = template_token(item);
    if (token.empty()) {
      after_text = true;
      continue;
    }
    if (after_text || parts.add_bos)
      item.unsupported("\"{}\" is added; only one BOS before the text is built", token);
    if (!parts.vocabulary.find(token)) item.corrupt("\"{}\" is not in the vocabulary", token);
    parts.bos = token;
    parts.add_bos = true;
  }
}

void read_post_processor(const JsonFields& step, BpeParts& parts) {
  const std::string type = step.text("type");
  if (type == "ByteLevel") return;  // trims offsets, which are not given out
  if (type == "TemplateProcessing") return read_template(step, parts);
  refuse(step, "Sequence, ByteLevel, TemplateProcessing");
}

}  // namespace

void read_steps(const JsonFields& top, BpeParts& parts) {
  const auto section = [&](const char* key, const char* list_key,
                           const std::function<void(const JsonFields&)>& each) {
    if (top.find(key) != nullptr)
      for_each_step({top.require(key), top.file(), key}, list_key, each);
  };
  section("normalizer", "normalizers",
          [&](const JsonFields& step) { read_normalizer(step, parts.normalizer); });
  section("pre_tokenizer", "pretokenizers",
          [&](const JsonFields& step) { read_pre_tokenizer(step, parts.pre_tokenizer); });
  section("post_processor", "processors",
          [&](const JsonFields& step) { read_post_processor(step, parts); });
  if (top.find("decoder") == nullptr) top.unsupported("a tokenizer without a decoder is not built");
  DecoderOrder order;
  section("decoder", "decoders", [&](const JsonFields& step) { read_decoder(step, parts, order); });
}

}  // namespace erne
