#include "token/special_tokens.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>
#include <unordered_map>

#include "base/file.h"
#include "base/log.h"
#include "token/json_fields.h"

namespace erne {
namespace {

// Every name listed under one of these keys is special, whatever type its piece has (spec
// text.md 6.4).
constexpr std::array kSpecialKeys = {"bos_token", "eos_token", "unk_token", "sep_token",
                                     "pad_token", "cls_token", "mask_token"};
constexpr std::array kSpecialLists = {"additional_special_tokens", "extra_special_tokens"};

class Reader {
 public:
  explicit Reader(BpeParts& parts) : parts_(parts) {
    for (size_t i = 0; i < parts.added.size(); ++i) by_id_.emplace(parts.added[i].id, i);
  }

  /// A token that the file gives with its id. An entry that is known already only gains "special".
  void add(AddedToken token, const JsonFields& source) {
    if (token.content.empty()) source.corrupt("token {} has no text", token.id);
    if (parts_.vocabulary.find(token.content) != token.id &&
        !parts_.vocabulary.add(token.content, token.id)) {
      const std::string* other = parts_.vocabulary.name(token.id);
      source.corrupt("\"{}\" has id {}, but the tokenizer has {}", token.content, token.id,
                     other != nullptr ? fmt::format("\"{}\" there", *other) : "another id for it");
    }
    const auto [known, inserted] = by_id_.try_emplace(token.id, parts_.added.size());
    if (inserted) {
      parts_.added.push_back(std::move(token));
    } else {
      parts_.added[known->second].special = parts_.added[known->second].special || token.special;
    }
  }

  void mark_special(const std::string& name, const JsonFields& source) {
    if (name.empty()) return;
    const auto id = parts_.vocabulary.find(name);
    if (!id) {
      log::warn("{}: special token \"{}\" has no id in the vocabulary", source.file(), name);
      return;
    }
    add({.id = *id, .content = name, .special = true}, source);
  }

 private:
  BpeParts& parts_;
  std::unordered_map<int32_t, size_t> by_id_;  // index into parts_.added
};

// "<s>" or {"content": "<s>", …}.
std::string token_text(const Json& value, const JsonFields& source, const char* key) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object()) return JsonFields(value, source.file(), key).text("content");
  source.corrupt("\"{}\" must be a token, not {}", key, value.type_name());
}

void read_special_names(const JsonFields& fields, BpeParts& parts, Reader& reader) {
  for (const char* key : kSpecialKeys) {
    const Json* value = fields.find(key);
    if (value == nullptr) continue;
    const std::string name = token_text(*value, fields, key);
    reader.mark_special(name, fields);
    if (std::string_view(key) == "bos_token" && !name.empty()) parts.bos = name;
    if (std::string_view(key) == "eos_token" && !name.empty()) parts.eos = name;
  }
  for (const char* key : kSpecialLists) {
    const Json* list = fields.find(key);
    if (list == nullptr) continue;
    if (!list->is_array() && !list->is_object())
      fields.corrupt("\"{}\" must be a list, not {}", key, list->type_name());
    for (const Json& entry : *list) reader.mark_special(token_text(entry, fields, key), fields);
  }
}

void read_added_tokens_decoder(const JsonFields& config, Reader& reader) {
  const Json* decoder = config.find("added_tokens_decoder");
  if (decoder == nullptr) return;
  if (!decoder->is_object()) config.corrupt("\"added_tokens_decoder\" must be an object");
  for (const auto& [key, value] : decoder->items()) {
    const JsonFields entry(value, config.file(), "added_tokens_decoder." + key);
    AddedToken token;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token.id);
    if (error != std::errc() || end != key.data() + key.size() || token.id < 0 ||
        token.id > Vocabulary::kMaxId) {
      entry.corrupt("the key must be an id between 0 and {}", Vocabulary::kMaxId);
    }
    token.content = entry.text("content");
    token.special = entry.flag_or("special", false);
    token.normalized = entry.flag_or("normalized", false);
    token.single_word = entry.flag_or("single_word", false);
    token.lstrip = entry.flag_or("lstrip", false);
    token.rstrip = entry.flag_or("rstrip", false);
    reader.add(std::move(token), entry);
  }
}

void read_added_tokens_json(const JsonFields& file, const Json& root, Reader& reader) {
  for (const auto& [name, value] : root.items()) {
    AddedToken token;
    token.id = static_cast<int32_t>(file.number(name.c_str(), Vocabulary::kMaxId));
    token.content = name;
    reader.add(std::move(token), file);
  }
}

}  // namespace

void read_special_tokens(const std::filesystem::path& folder, bool with_added_tokens,
                         BpeParts& parts) {
  Reader reader(parts);
  const auto with_file = [&](const char* name, const auto& read) {
    const auto path = folder / name;
    std::error_code ignored;  // what exists but cannot be read is read_file's error
    if (!std::filesystem::exists(path, ignored)) return;
    const Json root = JsonFields::parse(read_file(path), path.string());
    read(JsonFields(root, path.string(), name), root);
  };
  if (with_added_tokens) {
    with_file("added_tokens.json", [&](const JsonFields& file, const Json& root) {
      read_added_tokens_json(file, root, reader);
    });
  }
  with_file("tokenizer_config.json", [&](const JsonFields& config, const Json&) {
    read_added_tokens_decoder(config, reader);
    read_special_names(config, parts, reader);
    if (config.find("add_bos_token") != nullptr)
      parts.add_bos = config.flag_or("add_bos_token", false);
  });
  with_file("special_tokens_map.json", [&](const JsonFields& map, const Json&) {
    // tokenizer_config.json is the newer file and has the last word on what begins and ends a text.
    const auto bos = parts.bos;
    const auto eos = parts.eos;
    read_special_names(map, parts, reader);
    if (bos) parts.bos = bos;
    if (eos) parts.eos = eos;
  });
}

}  // namespace erne
