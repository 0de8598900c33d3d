#include "token/tokenizer_json.h"

#include <utility>

#include "token/byte_alphabet.h"
#include "token/json_fields.h"
#include "token/tokenizer_steps.h"

namespace erne {
namespace {

constexpr size_t kMaxTokenBytes = 64 << 10;

void read_vocab(const JsonFields& model, BpeParts& parts) {
  const Json& vocab = model.require("vocab");
  if (!vocab.is_object()) model.corrupt("\"vocab\" must be an object, not {}", vocab.type_name());
  parts.vocabulary.reserve(vocab.size() + vocab.size() / 16);
  for (const auto& [name, value] : vocab.items()) {
    if (!value.is_number_integer()) model.corrupt("id of token \"{}\" is not a whole number", name);
    const int64_t id =
        value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX ? -1 : value.get<int64_t>();
    if (id < 0 || id > Vocabulary::kMaxId) {
      model.corrupt("id of token \"{}\" must be between 0 and {}, got {}", name, Vocabulary::kMaxId,
                    dump_json(value));
    }
    if (name.size() > kMaxTokenBytes)
      model.corrupt("token {} is {} bytes long; at most {} are taken", id, name.size(),
                    kMaxTokenBytes);
    const auto token = static_cast<int32_t>(id);
    if (!parts.vocabulary.add(name, token)) {
      model.corrupt("id {} is given to \"{}\" and to \"{}\"", id, *parts.vocabulary.name(token),
                    name);
    }
  }
  parts.model_token.assign(static_cast<size_t>(parts.vocabulary.size()), true);
}

// One entry of "merges": ["a", "b"] or "a b".
std::pair<std::string_view, std::string_view> merge_sides(const JsonFields& model,
                                                          const Json& entry, size_t index) {
  if (entry.is_string()) {
    const std::string_view text = entry.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      model.corrupt("merges[{}] is \"{}\"; two tokens with one space between them were expected",
                    index, text);
    }
    return {text.substr(0, space), text.substr(space + 1)};
  }
  if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_string()) {
    model.corrupt("merges[{}] must be a pair of strings", index);
  }
  return {entry[0].get_ref<const std::string&>(), entry[1].get_ref<const std::string&>()};
}

void read_merges(const JsonFields& model, BpeParts& parts) {
  const Json& merges = model.array("merges");
  parts.merges.reserve(merges.size());
  std::string joined;
  const auto id_of = [&](std::string_view name, size_t index) {
    const auto id = parts.vocabulary.find(name);
    if (!id) model.corrupt("merges[{}] names \"{}\", which is not in the vocabulary", index, name);
    return *id;
  };
  for (size_t i = 0; i < merges.size(); ++i) {
    if (i == 0 && merges[i].is_string() &&
        merges[i].get_ref<const std::string&>().starts_with("#version"))
      continue;
    const auto [left, right] = merge_sides(model, merges[i], i);
    joined.assign(left);
    joined += right;
    parts.merges.push_back(
        {id_of(left, i), id_of(right, i), id_of(joined, i), static_cast<uint32_t>(i)});
  }
}

void read_model(const JsonFields& model, BpeParts& parts) {
  if (const std::string type = model.text_or("type", "BPE"); type != "BPE") {
    model.unsupported("model type \"{}\" is not built (BPE is)", type);
  }
  model.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (const Json* dropout = model.find("dropout"); dropout != nullptr && *dropout != 0.0) {
    model.unsupported("dropout {} is not built", dump_json(*dropout));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const std::string affix = model.text_or(key, ""); !affix.empty()) {
      model.unsupported("{} \"{}\" is not built", key, affix);
    }
  }
  read_vocab(model, parts);
  read_merges(model, parts);
  parts.options.fuse_unk = model.flag_or("fuse_unk", false);
  parts.options.byte_fallback = model.flag_or("byte_fallback", false);
  parts.options.ignore_merges = model.flag_or("ignore_merges", false);
  if (model.find("unk_token") != nullptr) {
    const std::string unk = model.text("unk_token");
    parts.options.unk = parts.vocabulary.find(unk);
    if (!parts.options.unk) model.corrupt("unk_token \"{}\" is not in the vocabulary", unk);
  }
}

void read_added_tokens(const Json& root, const std::string& file, BpeParts& parts) {
  const JsonFields top(root, file, "tokenizer");
  if (top.find("added_tokens") == nullptr) return;
  const Json& list = top.array("added_tokens");
  std::vector<bool> seen;
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonFields entry(list[i], file, fmt::format("added_tokens[{}]", i));
    entry.only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    AddedToken token;
    token.id = static_cast<int32_t>(entry.number("id", Vocabulary::kMaxId));
    token.content = entry.text("content");
    token.special = entry.flag_or("special", false);
    token.normalized = entry.flag_or("normalized", !token.special);
    token.single_word = entry.flag_or("single_word", false);
    token.lstrip = entry.flag_or("lstrip", false);
    token.rstrip = entry.flag_or("rstrip", false);
    if (token.content.empty()) entry.corrupt("\"content\" is empty");
    if (token.content.size() > kMaxTokenBytes)
      entry.corrupt("\"content\" of {} bytes; at most {} are taken", token.content.size(),
                    kMaxTokenBytes);
    if (parts.vocabulary.find(token.content) != token.id &&
        !parts.vocabulary.add(token.content, token.id)) {
      const std::string* other = parts.vocabulary.name(token.id);
      entry.corrupt("\"{}\" has id {}, but the vocabulary has {}", token.content, token.id,
                    other != nullptr ? fmt::format("\"{}\" there", *other) : "another id for it");
    }
    seen.resize(std::max(seen.size(), static_cast<size_t>(token.id) + 1), false);
    if (seen[static_cast<size_t>(token.id)]) entry.corrupt("id {} is listed twice", token.id);
    seen[static_cast<size_t>(token.id)] = true;
    parts.added.push_back(std::move(token));
  }
}

void check_bytes(const JsonFields& model, const BpeParts& parts) {
  if (!parts.options.byte_fallback) return;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string piece = fmt::format("<0x{:02X}>", byte);
    if (!parts.vocabulary.find(piece))
      model.corrupt("byte_fallback is on, but \"{}\" is not in the vocabulary", piece);
  }
}

}  // namespace

BpeParts read_tokenizer_json(std::string_view text, const std::string& file) {
  const Json root = JsonFields::parse(text, file);
  const JsonFields top(root, file, "tokenizer");
  top.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
            "post_processor", "decoder", "model"});
  // Truncation and padding shape training batches; a prompt is never cut or padded silently, so
  // they are left aside.
  BpeParts parts;
  const JsonFields model = top.object("model");
  read_model(model, parts);
  read_added_tokens(root, file, parts);
  read_steps(top, parts);
  parts.options.byte_level = parts.pre_tokenizer.byte_level();
  if (parts.options.byte_level && parts.options.byte_fallback) {
    model.unsupported("byte_fallback together with a ByteLevel pre-tokenizer is not built");
  }
  check_bytes(model, parts);
  return parts;
}

}  // namespace erne
