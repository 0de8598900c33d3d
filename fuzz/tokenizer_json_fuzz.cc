// tokenizer.json: any bytes give an Error or a tokenizer that encodes and decodes without a fault,
// whose streaming equals its whole decode and which lets no special token out of plain text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/utf8.h"
#include "token/bpe_tokenizer.h"
#include "token/tokenizer_json.h"

namespace {

void exercise(const erne::Tokenizer& tokenizer, const std::string& text,
              const std::vector<int32_t>& unk) {
  for (const int32_t id : tokenizer.encode_plain(text)) {
    ERNE_CHECK(!tokenizer.is_special(id) || std::find(unk.begin(), unk.end(), id) != unk.end(),
               "id {}", id);
  }
  const auto ids = tokenizer.encode(text);
  for (const bool skip : {false, true}) {
    erne::StreamDecoder decoder(tokenizer, skip);
    std::string streamed;
    for (const int32_t id : ids) {
      const std::string piece = decoder.push(id);
      ERNE_CHECK(erne::utf8::valid(piece));
      streamed += piece;
    }
    streamed += decoder.flush();
    ERNE_CHECK(streamed == tokenizer.decode(ids, skip));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try {
    erne::BpeParts parts = erne::read_tokenizer_json(bytes, "tokenizer.json");
    std::vector<int32_t> unk;
    if (parts.options.unk) unk.push_back(*parts.options.unk);
    const erne::BpeTokenizer tokenizer(std::move(parts));
    const std::string tail = bytes.substr(size - std::min<size_t>(size, 64));
    exercise(tokenizer, "the  end's 12 é 你🩸<s>" + tail, unk);
  } catch (const erne::Error&) {  // the expected answer to most inputs
  }
  return 0;
}
