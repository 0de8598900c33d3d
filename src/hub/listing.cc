#include "hub/listing.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "base/json.h"

namespace erne {
namespace {

constexpr size_t kMaxFiles = 100'000;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 44;

// Everything a text model is read from, besides its weights.
constexpr std::array<std::string_view, 9> kSmallFiles = {"config.json",
                                                         "generation_config.json",
                                                         "tokenizer.json",
                                                         "tokenizer.model",
                                                         "tokenizer_config.json",
                                                         "added_tokens.json",
                                                         "special_tokens_map.json",
                                                         "chat_template.jinja",
                                                         "chat_template.json"};

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

bool is_hex(std::string_view text, size_t size) {
  return text.size() == size && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// Calls `part` for each piece between slashes; false if one is refused.
template <typename Check>
bool all_parts(std::string_view path, const Check& check) {
  while (true) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == ".." || !check(part)) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

bool is_safe_path(std::string_view path) {
  return all_parts(path, [](std::string_view part) {
    return std::none_of(part.begin(), part.end(), [](char c) {
      return static_cast<unsigned char>(c) < ' ' || c == '\\' || c == 0x7f;
    });
  });
}

// Json values come from outside: every access says what was expected.
const Json& member(const Json& object, const char* key, std::string_view what) {
  if (!object.is_object() || !object.contains(key)) {
    fail(Code::kCorrupt, "the hub's answer ({}) has no '{}'", what, key);
  }
  return object.at(key);
}

std::string text_member(const Json& object, const char* key, std::string_view what) {
  const Json& value = member(object, key, what);
  if (!value.is_string()) fail(Code::kCorrupt, "the hub's answer ({}): '{}' is no text", what, key);
  return value.get<std::string>();
}

RepoFile parse_entry(const Json& entry) {
  RepoFile file;
  file.path = text_member(entry, "path", "file list");
  if (!is_safe_path(file.path)) {
    fail(Code::kCorrupt,
         "the hub lists a file '{}', which would lie outside its folder; nothing was downloaded",
         file.path);
  }
  const bool large = entry.contains("lfs") && entry["lfs"].is_object();
  const Json& source = large ? entry["lfs"] : entry;
  const Json& size = member(source, "size", file.path);
  if (!size.is_number_unsigned() || size.get<uint64_t>() > kMaxFileBytes) {
    fail(Code::kCorrupt, "the hub lists {} with a size of {}", file.path, dump_json(size));
  }
  file.size = size.get<uint64_t>();
  file.digest = text_member(source, "oid", file.path);
  if (!is_hex(file.digest, large ? 64 : 40)) {
    fail(Code::kCorrupt, "the hub lists {} with the digest '{}', which is no {}", file.path,
         file.digest, large ? "sha256" : "sha1");
  }
  return file;
}

const RepoFile* find(const std::vector<RepoFile>& files, std::string_view path) {
  const auto found =
      std::find_if(files.begin(), files.end(), [&](const RepoFile& f) { return f.path == path; });
  return found == files.end() ? nullptr : &*found;
}

// What a repository has in place of safetensors, so that the message can say it.
std::string other_weights(const std::vector<RepoFile>& files) {
  for (const RepoFile& file : files) {
    for (const std::string_view ending : {".gguf", ".bin", ".pdparams", ".onnx", ".pt"}) {
      if (file.path.ends_with(ending)) return file.path;
    }
  }
  return {};
}

}  // namespace

bool is_repo_id(std::string_view text) {
  if (std::count(text.begin(), text.end(), '/') != 1) return false;
  if (text.find("..") != text.npos || text.find("--") != text.npos || text.ends_with(".git"))
    return false;
  return all_parts(text, [](std::string_view part) {
    const auto is_edge = [](char c) { return c == '-' || c == '.'; };
    return part.size() <= 96 && !is_edge(part.front()) && !is_edge(part.back()) &&
           std::all_of(part.begin(), part.end(), is_word);
  });
}

bool is_revision(std::string_view text) {
  return text.size() <= 255 && all_parts(text, [](std::string_view part) {
           return std::all_of(part.begin(), part.end(), is_word) && part.front() != '-';
         });
}

bool is_commit(std::string_view text) { return is_hex(text, 40); }

std::string parse_commit(std::string_view json) {
  const Json answer = parse_json(json, "the hub's answer (revision)");
  std::string sha = text_member(answer, "sha", "revision");
  if (!is_commit(sha)) fail(Code::kCorrupt, "the hub's answer (revision): '{}' is no commit", sha);
  return sha;
}

std::vector<RepoFile> parse_tree(std::string_view json) {
  const Json answer = parse_json(json, "the hub's answer (file list)");
  if (!answer.is_array()) fail(Code::kCorrupt, "the hub's answer (file list) is no array");
  if (answer.size() > kMaxFiles)
    fail(Code::kCorrupt, "the hub lists {} files on one page", answer.size());
  std::vector<RepoFile> files;
  for (const Json& entry : answer) {
    const std::string type = text_member(entry, "type", "file list");
    if (type == "file") files.push_back(parse_entry(entry));
  }
  return files;
}

std::vector<std::string> parse_index(std::string_view json) {
  const Json index = parse_json(json, kIndexFile);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    fail(Code::kCorrupt, "{} has no object 'weight_map'", kIndexFile);
  }
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    const bool plain = shard.is_string() && is_safe_path(shard.get<std::string>()) &&
                       shard.get<std::string>().find('/') == std::string::npos;
    if (!plain) {
      fail(Code::kCorrupt, "{}: tensor '{}' lies in {}, which is no file name", kIndexFile, tensor,
           dump_json(shard));
    }
    shards.insert(shard.get<std::string>());
  }
  if (shards.empty()) fail(Code::kCorrupt, "{} names no tensor", kIndexFile);
  return {shards.begin(), shards.end()};
}

std::optional<std::string> next_page(std::string_view link_header) {
  // <https://…?cursor=…>; rel="next"
  const size_t open = link_header.find('<');
  const size_t close = link_header.find('>');
  if (open == link_header.npos || close == link_header.npos || close < open) return std::nullopt;
  if (link_header.find("rel=\"next\"", close) == link_header.npos) return std::nullopt;
  return std::string(link_header.substr(open + 1, close - open - 1));
}

NeededFiles choose_files(const std::vector<RepoFile>& files, std::string_view repo) {
  NeededFiles needed;
  for (const std::string_view name : kSmallFiles) {
    if (const RepoFile* file = find(files, name)) needed.small.push_back(*file);
  }
  if (find(files, "config.json") == nullptr) {
    fail(Code::kUnsupported, "{} has no config.json: it is no model in the Hugging Face layout",
         repo);
  }
  if (const RepoFile* single = find(files, kSingleFile)) {
    needed.weights.push_back(*single);
  } else if (const RepoFile* index = find(files, kIndexFile)) {
    needed.small.push_back(*index);
    needed.has_index = true;
  } else {
    const std::string other = other_weights(files);
    fail(Code::kUnsupported, "{} has no safetensors weights{}", repo,
         other.empty()
             ? ""
             : fmt::format(" (it has {}); take the repository that holds them as safetensors",
                           other));
  }
  return needed;
}

}  // namespace erne
