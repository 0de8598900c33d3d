#include "engine/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/hash.h"

namespace erne {

struct PrefixCache::Node {
  Node* parent = nullptr;  // null for a root
  std::vector<int32_t> tokens;
  std::vector<int32_t> blocks;                                   // tokens.size() / page
  std::unordered_map<uint64_t, std::unique_ptr<Node>> children;  // by page_key of their first page
  int locks = 0;
  uint64_t last_use = 0;
  uint64_t serial = 0;  // makes the order of last_use strict
  bool in_lru = false;
  std::string space;  // of a root
};

bool PrefixCache::ByUse::operator()(const Node* a, const Node* b) const {
  return std::pair(a->last_use, a->serial) < std::pair(b->last_use, b->serial);
}

PrefixCache::PrefixCache(BlockPool& pool, int page_size)
    : pool_(pool), page_(static_cast<size_t>(page_size)) {
  ERNE_CHECK(page_size > 0, "page size {}", page_size);
}

PrefixCache::~PrefixCache() = default;

PrefixCache::Node* PrefixCache::root_of(const std::string& space) {
  std::unique_ptr<Node>& root = roots_[space];
  if (root == nullptr) {
    root = std::make_unique<Node>();
    root->space = space;
  }
  return root.get();
}

uint64_t PrefixCache::page_key(std::span<const int32_t> tokens) const {
  return hash128(tokens.data(), page_ * sizeof(int32_t)).low;
}

PrefixCache::Node* PrefixCache::find_child(const Node& node, std::span<const int32_t> rest) const {
  if (rest.size() < page_ || node.children.empty()) return nullptr;
  const auto found = node.children.find(page_key(rest));
  return found == node.children.end() ? nullptr : found->second.get();
}

size_t PrefixCache::common_pages(const Node& node, std::span<const int32_t> rest) const {
  const size_t limit = std::min(node.tokens.size(), rest.size());
  const auto end = node.tokens.begin() + static_cast<ptrdiff_t>(limit);
  const auto differs = std::mismatch(node.tokens.begin(), end, rest.begin()).first;
  return static_cast<size_t>(differs - node.tokens.begin()) / page_;
}

// Cuts `node` after `pages` pages and returns the upper part. The lower part keeps its address,
// since locks point to it.
PrefixCache::Node* PrefixCache::split(Node* node, size_t pages) {
  const size_t cut = pages * page_;
  const uint64_t key = page_key(node->tokens);
  auto upper = std::make_unique<Node>();
  Node* const result = upper.get();
  upper->parent = node->parent;
  upper->tokens.assign(node->tokens.begin(), node->tokens.begin() + static_cast<ptrdiff_t>(cut));
  upper->blocks.assign(node->blocks.begin(), node->blocks.begin() + static_cast<ptrdiff_t>(pages));
  upper->locks = node->locks;
  upper->last_use = node->last_use;
  upper->serial = ++serial_;
  if (node->locks > 0) ++locked_nodes_;

  std::unique_ptr<Node>& slot = node->parent->children.at(key);
  std::unique_ptr<Node> lower = std::exchange(slot, std::move(upper));
  lower->tokens.erase(lower->tokens.begin(), lower->tokens.begin() + static_cast<ptrdiff_t>(cut));
  lower->blocks.erase(lower->blocks.begin(), lower->blocks.begin() + static_cast<ptrdiff_t>(pages));
  lower->parent = result;
  const uint64_t lower_key = page_key(lower->tokens);
  result->children.emplace(lower_key, std::move(lower));
  return result;
}

void PrefixCache::update_lru(Node* node) {
  const bool evictable = node->parent != nullptr && node->locks == 0 && node->children.empty();
  if (evictable == node->in_lru) return;
  if (evictable) {
    lru_.insert(node);
  } else {
    lru_.erase(node);
  }
  node->in_lru = evictable;
}

void PrefixCache::touch(Node* node) {
  if (node->in_lru) lru_.erase(node);
  node->last_use = clock_;
  if (node->in_lru) lru_.insert(node);
}

PrefixCache::Match PrefixCache::match(const std::string& space, std::span<const int32_t> tokens,
                                      std::vector<int32_t>& blocks) {
  const auto root = roots_.find(space);
  if (root == roots_.end()) return {};
  ++clock_;
  Match result;
  Node* at = root->second.get();
  while (Node* child = find_child(*at, tokens)) {
    const size_t pages = common_pages(*child, tokens);
    if (pages == 0) break;  // a hash collision
    if (pages < child->blocks.size()) child = split(child, pages);
    touch(child);
    blocks.insert(blocks.end(), child->blocks.begin(), child->blocks.end());
    result.tokens += static_cast<int64_t>(pages * page_);
    tokens = tokens.subspan(pages * page_);
    at = result.node = child;
  }
  return result;
}

int64_t PrefixCache::match_length(const std::string& space, std::span<const int32_t> tokens) const {
  const auto root = roots_.find(space);
  if (root == roots_.end()) return 0;
  int64_t length = 0;
  const Node* at = root->second.get();
  while (const Node* child = find_child(*at, tokens)) {
    const size_t pages = common_pages(*child, tokens);
    length += static_cast<int64_t>(pages * page_);
    if (pages < child->blocks.size()) break;
    tokens = tokens.subspan(pages * page_);
    at = child;
  }
  return length;
}

void PrefixCache::lock(Node* node) {
  for (; node->parent != nullptr; node = node->parent) {
    if (node->locks++ > 0) continue;
    const auto pages = static_cast<int32_t>(node->blocks.size());
    evictable_blocks_ -= pages;
    locked_blocks_ += pages;
    ++locked_nodes_;
    update_lru(node);
  }
}

void PrefixCache::unlock(Node* node) {
  for (; node->parent != nullptr; node = node->parent) {
    ERNE_CHECK(node->locks > 0, "a node of {} pages is not locked", node->blocks.size());
    if (--node->locks > 0) continue;
    const auto pages = static_cast<int32_t>(node->blocks.size());
    evictable_blocks_ += pages;
    locked_blocks_ -= pages;
    --locked_nodes_;
    update_lru(node);
  }
}

PrefixCache::Match PrefixCache::insert(const std::string& space, std::span<const int32_t> tokens,
                                       std::span<int32_t> blocks, size_t num_shared) {
  ERNE_CHECK(tokens.size() == blocks.size() * page_, "{} tokens, {} blocks", tokens.size(),
             blocks.size());
  if (tokens.empty()) return {};
  ++clock_;
  Node* at = root_of(space);
  size_t done = 0;
  while (done < blocks.size()) {
    const auto rest = tokens.subspan(done * page_);
    Node* child = find_child(*at, rest);
    if (child == nullptr) break;
    const size_t pages = common_pages(*child, rest);
    if (pages == 0) return {done > 0 ? at : nullptr, static_cast<int64_t>(done * page_)};
    if (pages < child->blocks.size()) child = split(child, pages);
    touch(child);
    for (size_t i = 0; i < pages; ++i, ++done) {
      const int32_t mine = std::exchange(blocks[done], child->blocks[i]);
      if (done >= num_shared) {
        pool_.give_back(mine);
      } else {
        ERNE_CHECK(mine == blocks[done], "page {} is block {} here and {} in the tree", done, mine,
                   blocks[done]);
      }
    }
    at = child;
  }
  if (done < blocks.size()) {
    const auto rest = tokens.subspan(done * page_);
    auto leaf = std::make_unique<Node>();
    leaf->parent = at;
    leaf->tokens.assign(rest.begin(), rest.end());
    leaf->blocks.assign(blocks.begin() + static_cast<ptrdiff_t>(done), blocks.end());
    leaf->last_use = clock_;
    leaf->serial = ++serial_;
    evictable_blocks_ += static_cast<int32_t>(leaf->blocks.size());
    Node* const added = leaf.get();
    at->children.emplace(page_key(rest), std::move(leaf));
    update_lru(at);
    update_lru(added);
    at = added;
  }
  return {at, static_cast<int64_t>(tokens.size())};
}

// The node must have no children left and be unlocked; its blocks are the pool's already.
void PrefixCache::remove_leaf(Node* node) {
  if (node->in_lru) lru_.erase(node);
  Node* const parent = node->parent;
  parent->children.erase(page_key(node->tokens));
  if (parent->parent != nullptr) {
    update_lru(parent);
  } else if (parent->children.empty()) {
    roots_.erase(std::string(parent->space));
  }
}

int32_t PrefixCache::evict(int32_t num_blocks) {
  int32_t freed = 0;
  while (freed < num_blocks && !lru_.empty()) {
    Node* const node = *lru_.begin();
    const int32_t pages = std::min(num_blocks - freed, static_cast<int32_t>(node->blocks.size()));
    const size_t keep = node->blocks.size() - static_cast<size_t>(pages);
    for (size_t i = node->blocks.size(); i > keep; --i) pool_.give_back(node->blocks[i - 1]);
    freed += pages;
    evictable_blocks_ -= pages;
    evicted_tokens_ += static_cast<uint64_t>(pages) * page_;
    if (keep == 0) {
      remove_leaf(node);
    } else {
      node->blocks.resize(keep);
      node->tokens.resize(keep * page_);
    }
  }
  return freed;
}

void PrefixCache::drop_below(Node* node) {
  std::vector<Node*> children;
  for (const auto& [key, child] : node->children) children.push_back(child.get());
  for (Node* child : children) {
    drop_below(child);
    if (child->locks > 0) continue;
    for (const int32_t block : child->blocks) pool_.give_back(block);
    evictable_blocks_ -= static_cast<int32_t>(child->blocks.size());
    if (child->in_lru) lru_.erase(child);
    node->children.erase(page_key(child->tokens));
  }
  update_lru(node);
}

void PrefixCache::drop_space(const std::string& space) {
  const auto root = roots_.find(space);
  if (root == roots_.end()) return;
  drop_below(root->second.get());
  if (root->second->children.empty()) roots_.erase(root);
}

}  // namespace erne
