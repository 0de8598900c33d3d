#include "token/vocabulary.h"

#include "base/error.h"

namespace erne {

bool Vocabulary::add(std::string_view name, int32_t id) {
  ERNE_CHECK(id >= 0 && id <= kMaxId, "token id {}", id);
  const auto index = static_cast<size_t>(id);
  if (index < names_.size() && names_[index] != nullptr) return false;
  const auto [entry, inserted] = ids_.try_emplace(std::string(name), id);
  if (!inserted) return false;
  if (index >= names_.size()) names_.resize(index + 1, nullptr);
  names_[index] = &entry->first;
  return true;
}

std::optional<int32_t> Vocabulary::find(std::string_view name) const {
  const auto entry = ids_.find(name);
  if (entry == ids_.end()) return std::nullopt;
  return entry->second;
}

const std::string* Vocabulary::name(int32_t id) const {
  return id >= 0 && id < size() ? names_[static_cast<size_t>(id)] : nullptr;
}

}  // namespace erne
