// The digests by which the hub names contents: sha256 for large files (Git LFS), git's blob id for
// small ones.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace erne {

/// Digest of a file's content in the kind that `like` is: 64 digits, sha256; 40 digits, sha1 of
/// "blob <size>\0" and the content. Lower-case hexadecimal.
std::string content_digest(const std::filesystem::path& file, std::string_view like);

}  // namespace erne
