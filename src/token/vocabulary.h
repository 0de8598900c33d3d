// Names and ids of all tokens of a tokenizer, both directions. Filled while loading, read-only
// afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace erne {

class Vocabulary {
 public:
  /// Tables are indexed by id, so a file must not be able to ask for gigabytes with one large id.
  static constexpr int32_t kMaxId = (1 << 22) - 1;

  Vocabulary() = default;
  Vocabulary(const Vocabulary&) = delete;  // names_ points into ids_
  Vocabulary& operator=(const Vocabulary&) = delete;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  void reserve(size_t count) { ids_.reserve(count); }
  /// 0 <= id <= kMaxId. False, and nothing changed, when the name or the id is taken.
  bool add(std::string_view name, int32_t id);
  std::optional<int32_t> find(std::string_view name) const;
  /// Null for an id without a token.
  const std::string* name(int32_t id) const;
  /// One more than the largest id.
  int32_t size() const { return static_cast<int32_t>(names_.size()); }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view name) const { return std::hash<std::string_view>{}(name); }
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> ids_;
  std::vector<const std::string*> names_;  // keys of ids_, which never move
};

}  // namespace erne
