// Radix tree over token ids, page by page: which full pages of the KV cache hold which prefix (spec
// serving.md 12).
//
// A node is a run of pages; a page belongs to the tree or to one sequence, never to both. Sequences
// lock the deepest node they use, which locks the path to the root; unlocked leaves are evicted,
// least recently used first. Name spaces (cache salts) are separate roots. Engine thread only. The
// idea is RadixAttention (Zheng et al., 2023).
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"

namespace erne {

class PrefixCache {
 public:
  struct Node;

  PrefixCache(BlockPool& pool, int page_size);
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;
  ~PrefixCache();

  /// Where a prefix ends in the tree; node is null if tokens is 0.
  struct Match {
    Node* node = nullptr;
    int64_t tokens = 0;
  };

  /// The longest cached prefix of `tokens` in whole pages; appends its blocks and marks them used
  /// just now. The caller locks the node before anything else is asked of the cache.
  Match match(const std::string& space, std::span<const int32_t> tokens,
              std::vector<int32_t>& blocks);
  /// Length of that prefix, changing nothing.
  int64_t match_length(const std::string& space, std::span<const int32_t> tokens) const;

  void lock(Node* node);
  void unlock(Node* node);

  /// Gives whole pages to the tree: blocks[i] holds page i of `tokens`, the first `num_shared` are
  /// the tree's already. Where the tree has a page, the caller's own block goes back to the pool
  /// and blocks[i] becomes the tree's. The result counts the tokens whose pages are now the tree's
  /// (all of them, but for a hash collision).
  Match insert(const std::string& space, std::span<const int32_t> tokens, std::span<int32_t> blocks,
               size_t num_shared);

  /// Gives up to num_blocks unlocked pages back to the pool; returns how many.
  int32_t evict(int32_t num_blocks);
  /// Drops every unlocked page of one name space.
  void drop_space(const std::string& space);
  /// Drops every unlocked page.
  void clear() { evict(evictable_blocks_); }

  int32_t evictable_blocks() const { return evictable_blocks_; }
  int32_t locked_blocks() const { return locked_blocks_; }
  int64_t locked_nodes() const { return locked_nodes_; }
  uint64_t evicted_tokens_total() const { return evicted_tokens_; }

 private:
  struct ByUse {
    bool operator()(const Node* a, const Node* b) const;
  };

  Node* root_of(const std::string& space);
  Node* find_child(const Node& node, std::span<const int32_t> rest) const;
  size_t common_pages(const Node& node, std::span<const int32_t> rest) const;
  uint64_t page_key(std::span<const int32_t> tokens) const;
  Node* split(Node* node, size_t pages);
  void touch(Node* node);
  void update_lru(Node* node);
  void remove_leaf(Node* node);
  void drop_below(Node* node);

  BlockPool& pool_;
  const size_t page_;
  std::unordered_map<std::string, std::unique_ptr<Node>> roots_;
  std::set<Node*, ByUse> lru_;  // unlocked leaves
  uint64_t clock_ = 0;
  uint64_t serial_ = 0;
  int32_t evictable_blocks_ = 0;
  int32_t locked_blocks_ = 0;
  int64_t locked_nodes_ = 0;
  uint64_t evicted_tokens_ = 0;
};

}  // namespace erne
