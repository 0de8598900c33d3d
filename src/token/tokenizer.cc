#include "token/tokenizer.h"

#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "token/bpe_tokenizer.h"
#include "token/sentencepiece.h"
#include "token/special_tokens.h"
#include "token/tokenizer_json.h"

namespace erne {

std::unique_ptr<Tokenizer> Tokenizer::load(const std::filesystem::path& folder) {
  const auto json = folder / "tokenizer.json";
  const auto model = folder / "tokenizer.model";
  std::error_code ignored;  // a folder that may not be searched counts as empty
  const bool has_json = std::filesystem::exists(json, ignored);
  if (!has_json && !std::filesystem::exists(model, ignored)) {
    fail(Code::kNotFound, "{} has neither tokenizer.json nor tokenizer.model", folder.string());
  }
  BpeParts parts = has_json ? read_tokenizer_json(read_file(json), json.string())
                            : read_sentencepiece(read_file(model), model.string());
  read_special_tokens(folder, !has_json, parts);
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace erne
