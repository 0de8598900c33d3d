// Vocabulary, merges and special tokens of a GGUF file to tokenizer.json and tokenizer_config.json.
#include "model/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

// What a token may be long: tokenizer.json's own limit, and where merges are found by trying every
// split, which costs the square of the length, far less (SentencePiece makes pieces of up to 16
// characters).
constexpr size_t kMaxTokenBytes = size_t{64} << 10;
constexpr size_t kMaxScoredTokenBytes = 1024;

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, SentencePiece's space

// llama.cpp's token types.
enum TokenType : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// The lists of the file, checked against each other.
struct Vocabulary {
  std::vector<std::string_view> tokens;
  std::vector<int64_t> types;
  std::unordered_map<std::string_view, int64_t> ids;

  bool special(size_t id) const { return types[id] == kControl || types[id] == kUnknown; }
  bool added(size_t id) const { return special(id) || types[id] == kUserDefined; }
};

Vocabulary read_vocabulary(const GgufFile& file, size_t max_token_bytes) {
  Vocabulary vocabulary;
  auto tokens = file.texts("tokenizer.ggml.tokens");
  if (!tokens || tokens->empty())
    fail(Code::kCorrupt, "{}: key 'tokenizer.ggml.tokens' is missing", file.what());
  vocabulary.tokens = std::move(*tokens);
  const size_t size = vocabulary.tokens.size();
  vocabulary.types =
      file.integers("tokenizer.ggml.token_type").value_or(std::vector<int64_t>(size, kNormal));
  if (vocabulary.types.size() != size) {
    fail(Code::kCorrupt, "{}: {} tokens but {} token types", file.what(), size,
         vocabulary.types.size());
  }
  for (size_t id = 0; id < size; ++id) {
    const std::string_view token = vocabulary.tokens[id];
    if (token.size() > max_token_bytes) {
      fail(Code::kCorrupt, "{}: token {} has {} bytes; at most {} are valid", file.what(), id,
           token.size(), max_token_bytes);
    }
    if (!utf8::valid(token)) {
      fail(Code::kCorrupt, "{}: token {} ('{}') is not UTF-8", file.what(), id,
           utf8::sanitize(printable_name(token)));
    }
    const auto [it, inserted] = vocabulary.ids.emplace(token, static_cast<int64_t>(id));
    if (!inserted) {
      fail(Code::kCorrupt, "{}: tokens {} and {} are both '{}'", file.what(), it->second, id,
           printable_name(token));
    }
  }
  return vocabulary;
}

OrderedJson added_token(size_t id, std::string_view text, bool special) {
  return {{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

OrderedJson added_tokens(const Vocabulary& vocabulary) {
  OrderedJson list = OrderedJson::array();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.added(id))
      list.push_back(added_token(id, vocabulary.tokens[id], vocabulary.special(id)));
  }
  return list;
}

OrderedJson vocab_object(const Vocabulary& vocabulary) {
  // ordered_json looks every key up by walking the list; filling the underlying vector keeps this
  // linear.
  OrderedJson::object_t object;
  object.reserve(vocabulary.tokens.size());
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    static_cast<std::vector<std::pair<const std::string, OrderedJson>>&>(object).emplace_back(
        std::string(vocabulary.tokens[id]), id);
  }
  return object;
}

// "left right" -> [left, right]; the two parts and their concatenation must be tokens.
OrderedJson read_merges(const GgufFile& file, const Vocabulary& vocabulary) {
  const auto merges = file.texts("tokenizer.ggml.merges");
  if (!merges) fail(Code::kCorrupt, "{}: key 'tokenizer.ggml.merges' is missing", file.what());
  OrderedJson list = OrderedJson::array();
  for (size_t rank = 0; rank < merges->size(); ++rank) {
    const std::string_view merge = (*merges)[rank];
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) {
      fail(Code::kCorrupt, "{}: merge {} is '{}'; 'left right' is valid", file.what(), rank,
           printable_name(merge));
    }
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    for (const std::string& part :
         {std::string(left), std::string(right), fmt::format("{}{}", left, right)}) {
      if (vocabulary.ids.contains(part)) continue;
      fail(Code::kCorrupt, "{}: merge {} ('{}') needs '{}', which is no token", file.what(), rank,
           printable_name(merge), printable_name(part));
    }
    list.push_back({left, right});
  }
  return list;
}

OrderedJson byte_level(bool add_prefix_space) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", true}};
}

OrderedJson pre_tokenizer(const GgufFile& file) {
  const std::string pre = file.text("tokenizer.ggml.pre").value_or("");
  if (pre == "gpt-2") return byte_level(false);
  if (pre == "smollm") {
    const OrderedJson digits = {{"type", "Digits"}, {"individual_digits", true}};
    return {{"type", "Sequence"},
            {"pretokenizers", OrderedJson::array({digits, byte_level(false)})}};
  }
  fail(Code::kUnsupported, "{}: tokenizer.ggml.pre '{}' is not supported; smollm and gpt-2 are",
       file.what(), printable_name(pre));
}

// BPE model with the fields that the tokenizers library writes.
OrderedJson bpe_model(const Vocabulary& vocabulary, OrderedJson merges, OrderedJson unknown,
                      bool byte_fallback) {
  OrderedJson model = {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", std::move(unknown)},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", byte_fallback},
                       {"byte_fallback", byte_fallback},
                       {"ignore_merges", false}};
  model["vocab"] = vocab_object(vocabulary);
  model["merges"] = std::move(merges);
  return model;
}

// Every split of a normal piece into two existing ones is a merge; pieces of a better score merge
// first, and splits of one piece stand in the order of their ids.
OrderedJson merges_from_scores(const GgufFile& file, const Vocabulary& vocabulary) {
  const auto scores = file.numbers("tokenizer.ggml.scores");
  if (!scores || scores->size() != vocabulary.tokens.size()) {
    fail(Code::kCorrupt, "{}: {} tokens but {} scores", file.what(), vocabulary.tokens.size(),
         scores ? scores->size() : 0);
  }
  struct Merge {
    double score;
    int64_t left;
    int64_t right;
  };
  std::vector<Merge> merges;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.types[id] != kNormal) continue;
    const std::string_view piece = vocabulary.tokens[id];
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      if ((static_cast<unsigned char>(piece[cut]) & 0xC0) == 0x80) continue;  // inside a character
      const auto left = vocabulary.ids.find(piece.substr(0, cut));
      const auto right = vocabulary.ids.find(piece.substr(cut));
      if (left == vocabulary.ids.end() || right == vocabulary.ids.end()) continue;
      merges.push_back({(*scores)[id], left->second, right->second});
    }
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tuple(-a.score, a.left, a.right) < std::tuple(-b.score, b.left, b.right);
  });
  OrderedJson list = OrderedJson::array();
  for (const Merge& merge : merges) {
    list.push_back({vocabulary.tokens[static_cast<size_t>(merge.left)],
                    vocabulary.tokens[static_cast<size_t>(merge.right)]});
  }
  return list;
}

OrderedJson replace(std::string_view from, std::string_view to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

OrderedJson sequence(const char* parts_key, std::vector<OrderedJson> parts) {
  return {{"type", "Sequence"}, {parts_key, std::move(parts)}};
}

// The text of a special token named by id, or null.
OrderedJson token_text(const GgufFile& file, const Vocabulary& vocabulary, const char* key) {
  const auto id = file.integer(key);
  if (!id) return nullptr;
  if (*id < 0 || *id >= static_cast<int64_t>(vocabulary.tokens.size())) {
    fail(Code::kCorrupt, "{}: {} is {}; the vocabulary has {} tokens", file.what(), key, *id,
         vocabulary.tokens.size());
  }
  return vocabulary.tokens[static_cast<size_t>(*id)];
}

void add_bytelevel(const GgufFile& file, const Vocabulary& vocabulary, OrderedJson& json) {
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = pre_tokenizer(file);
  json["post_processor"] = nullptr;
  json["decoder"] = byte_level(true);
  json["model"] = bpe_model(vocabulary, read_merges(file, vocabulary), nullptr, false);
}

void add_sentencepiece(const GgufFile& file, const Vocabulary& vocabulary, bool prefix_space,
                       OrderedJson& json) {
  std::vector<OrderedJson> normalizers;
  if (prefix_space) normalizers.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  normalizers.push_back(replace(" ", kSpace));
  std::vector<OrderedJson> decoders{
      replace(kSpace, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (prefix_space)
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  const auto unknown = std::find(vocabulary.types.begin(), vocabulary.types.end(), kUnknown);
  OrderedJson unknown_text = nullptr;
  if (unknown != vocabulary.types.end()) {
    unknown_text = vocabulary.tokens[static_cast<size_t>(unknown - vocabulary.types.begin())];
  }
  json["normalizer"] = sequence("normalizers", std::move(normalizers));
  json["pre_tokenizer"] = nullptr;
  json["post_processor"] = nullptr;
  json["decoder"] = sequence("decoders", std::move(decoders));
  json["model"] =
      bpe_model(vocabulary, merges_from_scores(file, vocabulary), std::move(unknown_text), true);
}

// "<bos> text", as transformers' LlamaTokenizer writes it.
OrderedJson bos_template(const std::string& bos, int64_t id) {
  const OrderedJson first = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
  const OrderedJson a = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const OrderedJson second = {{"SpecialToken", {{"id", bos}, {"type_id", 1}}}};
  const OrderedJson b = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  OrderedJson tokens = OrderedJson::object();
  tokens[bos] = {
      {"id", bos}, {"ids", OrderedJson::array({id})}, {"tokens", OrderedJson::array({bos})}};
  return {{"type", "TemplateProcessing"},
          {"single", OrderedJson::array({first, a})},
          {"pair", OrderedJson::array({first, a, second, b})},
          {"special_tokens", tokens}};
}

OrderedJson tokenizer_config(const GgufFile& file, const Vocabulary& vocabulary, bool add_bos,
                             bool prefix_space) {
  constexpr std::array<std::pair<const char*, const char*>, 4> kNamed{
      {{"bos_token", "tokenizer.ggml.bos_token_id"},
       {"eos_token", "tokenizer.ggml.eos_token_id"},
       {"pad_token", "tokenizer.ggml.padding_token_id"},
       {"unk_token", "tokenizer.ggml.unknown_token_id"}}};
  OrderedJson config;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  for (const auto& [name, key] : kNamed) {
    if (OrderedJson text = token_text(file, vocabulary, key); !text.is_null())
      config[name] = std::move(text);
  }
  config["add_bos_token"] = add_bos;
  config["add_eos_token"] = false;
  config["add_prefix_space"] = prefix_space;
  config["clean_up_tokenization_spaces"] = false;
  const std::string architecture = file.text("general.architecture").value_or("");
  if (const auto length = file.integer(architecture + ".context_length"))
    config["model_max_length"] = *length;
  OrderedJson decoder = OrderedJson::object();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (!vocabulary.added(id)) continue;
    OrderedJson token = added_token(id, vocabulary.tokens[id], vocabulary.special(id));
    token.erase("id");
    decoder[fmt::to_string(id)] = std::move(token);
  }
  config["added_tokens_decoder"] = std::move(decoder);
  if (const auto chat = file.text("tokenizer.chat_template")) config["chat_template"] = *chat;
  return config;
}

}  // namespace

GgufTokenizer gguf_tokenizer(const GgufFile& file) {
  const std::string model = file.text("tokenizer.ggml.model").value_or("");
  const bool sentencepiece = model == "llama";
  if (!sentencepiece && model != "gpt2") {
    fail(Code::kUnsupported, "{}: tokenizer.ggml.model '{}' is not supported; gpt2 and llama are",
         file.what(), printable_name(model));
  }
  const Vocabulary vocabulary =
      read_vocabulary(file, sentencepiece ? kMaxScoredTokenBytes : kMaxTokenBytes);
  // What llama.cpp assumes where the file does not say.
  const bool prefix_space =
      sentencepiece && file.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  const bool add_bos = file.boolean("tokenizer.ggml.add_bos_token").value_or(sentencepiece);

  GgufTokenizer result;
  OrderedJson& json = result.tokenizer;
  json["version"] = "1.0";
  json["truncation"] = nullptr;
  json["padding"] = nullptr;
  json["added_tokens"] = added_tokens(vocabulary);
  if (sentencepiece) {
    add_sentencepiece(file, vocabulary, prefix_space, json);
  } else {
    add_bytelevel(file, vocabulary, json);
  }
  const OrderedJson bos = token_text(file, vocabulary, "tokenizer.ggml.bos_token_id");
  if (add_bos && !bos.is_null()) {
    const auto text = bos.get<std::string>();
    json["post_processor"] = bos_template(text, vocabulary.ids.at(text));
  }
  result.config = tokenizer_config(file, vocabulary, add_bos, prefix_space);
  return result;
}

}  // namespace erne
