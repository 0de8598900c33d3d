#include "hub/content_digest.h"

#include <openssl/evp.h>

#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

namespace erne {
namespace {

std::string git_blob_id(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  ERNE_CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha1(), nullptr) == 1);
  const std::string head = fmt::format("blob {}", file.bytes().size());
  ERNE_CHECK(EVP_DigestUpdate(context.get(), head.c_str(), head.size() + 1) ==
             1);  // with the zero byte
  ERNE_CHECK(EVP_DigestUpdate(context.get(), file.bytes().data(), file.bytes().size()) == 1);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  ERNE_CHECK(EVP_DigestFinal_ex(context.get(), digest, &size) == 1);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

}  // namespace

std::string content_digest(const std::filesystem::path& file, std::string_view like) {
  constexpr size_t kSha256Digits = 64;
  return like.size() == kSha256Digits ? sha256_file(file) : git_blob_id(file);
}

}  // namespace erne
