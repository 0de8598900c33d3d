// `erne tokenize`: what a checkpoint's tokenizer makes of a text, and the text of ids. Needs no
// weights.
#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "cli/engine_flags.h"
#include "cli/verbs.h"
#include "token/tokenizer.h"

namespace erne::cli {
namespace {

struct TokenizeFlags {
  ModelFlags model;
  std::string text;
  std::string file;
  std::string decode;
  bool ids = false;
  bool count = false;
  bool json = false;
  bool no_special = false;
  bool has_text = false;    // --text "" is a text
  bool has_decode = false;  // --decode "" is no ids
};

std::string read_stdin() {
  std::string text;
  std::array<char, 1 << 16> block{};
  while (const size_t got = std::fread(block.data(), 1, block.size(), stdin))
    text.append(block.data(), got);
  if (std::ferror(stdin) != 0) fail(Code::kIo, "standard input: {}", std::strerror(errno));
  return text;
}

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    fail(Code::kIo, "standard output: {}", std::strerror(errno));
  }
}

std::vector<int32_t> parse_ids(const std::string& text) {
  std::vector<int32_t> ids;
  const auto separator = [](char c) {
    return c == ',' || c == ' ' || c == '\n' || c == '[' || c == ']';
  };
  for (const char* at = text.data(); at != text.data() + text.size();) {
    if (separator(*at)) {
      ++at;
      continue;
    }
    int32_t id = 0;
    const auto [end, error] = std::from_chars(at, text.data() + text.size(), id);
    if (error != std::errc() || (end != text.data() + text.size() && !separator(*end))) {
      fail(Code::kInvalidArgument, "--decode takes ids such as 1,2,3, got \"{}\"", text);
    }
    ids.push_back(id);
    at = end;
  }
  return ids;
}

/// Bytes as a C-like string, so that white space and half characters are seen.
std::string quoted(std::string_view bytes) {
  std::string out = "\"";
  for (size_t at = 0; at < bytes.size();) {
    const utf8::Decoded d = utf8::decode(bytes, at);
    const auto size = static_cast<size_t>(d.size);
    const auto byte = static_cast<unsigned char>(bytes[at]);
    if (byte == '\n') {
      out += "\\n";
    } else if (byte == '"' || byte == '\\') {
      out += {'\\', static_cast<char>(byte)};
    } else if (!d.valid || d.codepoint < 0x20 || (d.codepoint >= 0x7F && d.codepoint < 0xA0)) {
      for (const char c : bytes.substr(at, size))
        out += fmt::format("\\x{:02X}", static_cast<unsigned char>(c));
    } else {
      out += bytes.substr(at, size);
    }
    at += size;
  }
  return out + '"';
}

std::string join(const std::vector<int32_t>& ids) { return fmt::format("{}", fmt::join(ids, ",")); }

void show_ids(const Tokenizer& tokenizer, const TokenizeFlags& flags,
              const std::vector<int32_t>& ids) {
  if (flags.count) return print(fmt::format("{}\n", ids.size()));
  if (flags.ids) return print(join(ids) + "\n");
  if (flags.json) {
    Json tokens = Json::array();
    for (const int32_t id : ids) tokens.push_back(tokenizer.token_name(id));
    return print(dump_json(Json{{"count", ids.size()}, {"ids", ids}, {"tokens", tokens}}) + "\n");
  }
  std::string out;
  for (const int32_t id : ids) {
    const std::string_view bytes = tokenizer.token_bytes(id);
    const std::string name = tokenizer.token_name(id);
    std::string text = quoted(bytes);
    const size_t width = utf8::length(text);
    if (tokenizer.is_special(id) || name != bytes) text.append(width < 16 ? 18 - width : 2, ' ');
    if (name != bytes) text += name;
    if (tokenizer.is_special(id)) text += "(special)";
    out += fmt::format("{:>8}  {}\n", id, text);
  }
  print(out + fmt::format("{} tokens\n", ids.size()));
}

void show_text(const Tokenizer& tokenizer, const TokenizeFlags& flags) {
  const std::vector<int32_t> ids = parse_ids(flags.decode);
  const std::string text = tokenizer.decode(ids, flags.no_special);
  if (flags.count) return print(fmt::format("{}\n", ids.size()));
  if (flags.ids) return print(join(ids) + "\n");
  print(flags.json ? dump_json(Json{{"count", ids.size()}, {"ids", ids}, {"text", text}}) + "\n"
                   : text + "\n");
}

void run(const TokenizeFlags& flags) {
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(find_model(flags.model));
  if (flags.has_decode) return show_text(*tokenizer, flags);
  constexpr size_t kMaxFileBytes = size_t{1} << 30;
  const std::string text = flags.has_text        ? flags.text
                           : !flags.file.empty() ? read_file(flags.file, kMaxFileBytes)
                                                 : read_stdin();
  show_ids(*tokenizer, flags,
           flags.no_special ? tokenizer->encode_plain(text) : tokenizer->encode(text));
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* verb =
      app.add_subcommand("tokenize", "show the tokens of a text, or the text of tokens");
  add_model_flags(*verb, flags->model);
  auto* text =
      verb->add_option("--text", flags->text, "the text to tokenize (default: standard input)");
  auto* file = verb->add_option("--file", flags->file, "a file to tokenize");
  auto* decode =
      verb->add_option("--decode", flags->decode, "ids to turn into text, such as 1,2,3");
  text->excludes(file)->excludes(decode);
  file->excludes(decode);
  verb->add_flag("--no-special", flags->no_special,
                 "no special tokens: typed ones are plain text, decoded ones are left out");
  auto* ids = verb->add_flag("--ids", flags->ids, "print the ids only, with commas");
  auto* count = verb->add_flag("--count", flags->count, "print the number of tokens only");
  auto* json = verb->add_flag("--json", flags->json, "print one line of JSON");
  ids->excludes(count)->excludes(json);
  count->excludes(json);
  verb->footer(
      "Examples:\n"
      "  erne tokenize --model-path models/default --text \"Hello, world!\"\n"
      "  erne tokenize --model-path models/default --file README.md --count\n"
      "  echo -n \"<|im_end|>\" | erne tokenize --model-path models/default --no-special --ids\n"
      "  erne tokenize --model-path models/default --decode 19556,28,905,17\n"
      "A line shows an id, the exact bytes that it stands for, and its name in the vocabulary "
      "where that differs.");
  verb->callback([flags, text, decode] {
    flags->has_text = text->count() > 0;
    flags->has_decode = decode->count() > 0;
    run(*flags);
  });
}

}  // namespace erne::cli
