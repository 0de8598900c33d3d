// What the hub says about a repository, read with distrust: names become paths and ids become file
// names on this machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace erne {

/// "org/name": two parts of letters, digits, '-', '_', '.', at most 96 characters each, no ".." or
/// "--", not ending in
/// ".git". The rules of the hub, which also make the id safe as a folder name.
bool is_repo_id(std::string_view text);

/// A branch, tag or commit: letters, digits and -._/ without empty, "." or ".." parts.
bool is_revision(std::string_view text);

/// 40 lower-case hexadecimal digits.
bool is_commit(std::string_view text);

struct RepoFile {
  std::string path;  ///< relative, no "..", no backslash
  uint64_t size = 0;
  std::string digest;  ///< sha256 (64 digits) of a large file, git's sha1 (40 digits) of a small
                       ///< one; also its blob's name
};

/// The commit of an answer of /api/models/{id}/revision/{revision}. Throws Error{kCorrupt}.
std::string parse_commit(std::string_view json);

/// The files of an answer of /api/models/{id}/tree/{commit}, folders left out. Throws
/// Error{kCorrupt} naming the entry for escaping paths, sizes and digests that are none.
std::vector<RepoFile> parse_tree(std::string_view json);

/// The shards that model.safetensors.index.json names, sorted, each once. Throws Error{kCorrupt}
/// for what is no plain file name.
std::vector<std::string> parse_index(std::string_view json);

/// Where the next page of a listing is, if the Link header names one.
std::optional<std::string> next_page(std::string_view link_header);

/// Of the files of a repository, those that a text model needs. Adapters, other formats' weights
/// and folders stay behind.
struct NeededFiles {
  std::vector<RepoFile> small;    ///< config, tokenizer, chat template, index
  std::vector<RepoFile> weights;  ///< model.safetensors; empty if the index names the shards
  bool has_index = false;
};
/// Throws Error{kUnsupported} if there is no config.json or there are no safetensors weights; says
/// what is there instead.
NeededFiles choose_files(const std::vector<RepoFile>& files, std::string_view repo);

inline constexpr std::string_view kIndexFile = "model.safetensors.index.json";
inline constexpr std::string_view kSingleFile = "model.safetensors";

}  // namespace erne
