// SentencePiece tokenizer.model: any bytes give an Error or a tokenizer that encodes and decodes
// without a fault.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "token/bpe_tokenizer.h"
#include "token/sentencepiece.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try {
    const erne::BpeTokenizer tokenizer(erne::read_sentencepiece(bytes, "tokenizer.model"));
    const auto ids = tokenizer.encode("the  end's 12 é 你🩸<s>" +
                                      bytes.substr(size - std::min<size_t>(size, 64)));
    static_cast<void>(tokenizer.decode(ids, false));
  } catch (const erne::Error&) {  // the expected answer to most inputs
  }
  return 0;
}
