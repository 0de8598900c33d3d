#include "base/hash.h"

#include <openssl/evp.h>
#define XXH_STATIC_LINKING_ONLY  // the state as a local variable
#include <xxhash.h>

#include "base/error.h"
#include "base/file.h"

namespace erne {

Hash128 hash128(const void* data, size_t size, const Hash128& chain) {
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_128bits_reset_withSeed(&state, chain.low);
  XXH3_128bits_update(&state, &chain.high, sizeof(chain.high));
  XXH3_128bits_update(&state, data, size);
  const XXH128_hash_t digest = XXH3_128bits_digest(&state);
  return {digest.low64, digest.high64};
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  ERNE_CHECK(context_ != nullptr);
  ERNE_CHECK(EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_), EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context_)); }

void Sha256::update(const void* data, size_t size) {
  ERNE_CHECK(EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_), data, size) == 1);
}

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  ERNE_CHECK(EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_), digest, &size) == 1);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  Sha256 hash;
  hash.update(file.bytes().data(), file.bytes().size());
  return hash.hex();
}

}  // namespace erne
