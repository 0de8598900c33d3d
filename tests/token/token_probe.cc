// A pipe for compare_tokenizers.py: one JSON object per line in, one out. {"text": …} is encoded
// and decoded again;
// {"ids": […]} is decoded, whole and streaming, with and without special tokens.
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "token/tokenizer.h"

namespace {

using erne::Json;

std::string stream(const erne::Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  erne::StreamDecoder decoder(tokenizer, skip);
  std::string out;
  for (const int32_t id : ids) out += decoder.push(id);
  return out + decoder.flush();
}

Json answer(const erne::Tokenizer& tokenizer, const Json& question) {
  std::vector<int32_t> ids;
  if (question.contains("text")) {
    ids = tokenizer.encode(question.at("text").get<std::string>());
  } else {
    ids = question.at("ids").get<std::vector<int32_t>>();
  }
  return {{"ids", ids},
          {"decoded", tokenizer.decode(ids, false)},
          {"decoded_skip", tokenizer.decode(ids, true)},
          {"stream", stream(tokenizer, ids, false)},
          {"stream_skip", stream(tokenizer, ids, true)}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: token_probe FOLDER < questions.jsonl > answers.jsonl\n");
    return 2;
  }
  try {
    const auto tokenizer = erne::Tokenizer::load(argv[1]);
    for (std::string line; std::getline(std::cin, line);) {
      std::cout << erne::dump_json(answer(*tokenizer, erne::parse_json(line, "question"))) << "\n";
    }
  } catch (const erne::Error& e) {
    std::fprintf(stderr, "token_probe: %s\n", e.what());
    return 1;
  }
  return 0;
}
