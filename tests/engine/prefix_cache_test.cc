#include "engine/prefix_cache.h"

#include <gtest/gtest.h>

#include <map>

#include "engine/loop_fixture.h"

namespace erne {
namespace {

std::vector<int32_t> take(BlockPool& pool, size_t n) {
  std::vector<int32_t> blocks;
  for (size_t i = 0; i < n; ++i) blocks.push_back(pool.take());
  return blocks;
}

TEST(PrefixCache, SharesWholePagesOnly) {
  BlockPool pool(16);
  PrefixCache cache(pool, 4);
  const std::vector<int32_t> tokens = random_ids(1, 12);
  std::vector<int32_t> blocks = take(pool, 3);
  const std::vector<int32_t> mine = blocks;
  cache.insert("", tokens, blocks, 0);
  EXPECT_EQ(cache.evictable_blocks(), 3);
  std::vector<int32_t> found;
  EXPECT_EQ(cache.match("", std::span(tokens).first(11), found).tokens, 8);
  EXPECT_EQ(found, std::vector<int32_t>(mine.begin(), mine.begin() + 2));
  EXPECT_EQ(cache.match_length("other", tokens), 0);
}

TEST(PrefixCache, DuplicatesGoBackToThePool) {
  BlockPool pool(16);
  PrefixCache cache(pool, 4);
  const std::vector<int32_t> tokens = random_ids(1, 12);
  std::vector<int32_t> first = take(pool, 3);
  cache.insert("", tokens, first, 0);
  std::vector<int32_t> second = take(pool, 3);
  EXPECT_EQ(cache.insert("", tokens, second, 0).tokens, 12);
  EXPECT_EQ(second, first);
  EXPECT_EQ(pool.num_free(), 13);
}

TEST(PrefixCache, EvictsTheLeastRecentLeafFirstAndNeverLockedPages) {
  BlockPool pool(8);
  PrefixCache cache(pool, 2);
  const std::vector<int32_t> a = {1, 2, 3, 4};
  const std::vector<int32_t> b = {1, 2, 5, 6};
  std::vector<int32_t> blocks = take(pool, 2);
  cache.insert("", a, blocks, 0);
  blocks = {blocks[0], pool.take()};
  cache.insert("", b, blocks, 1);
  std::vector<int32_t> found;
  const PrefixCache::Match match = cache.match("", a, found);  // a is now fresher than b
  cache.lock(match.node);
  EXPECT_EQ(cache.evictable_blocks(), 1);
  EXPECT_EQ(cache.locked_nodes(), 2);
  EXPECT_EQ(cache.evict(5), 1);
  EXPECT_EQ(cache.match_length("", b), 2);
  EXPECT_EQ(cache.match_length("", a), 4);
  cache.unlock(match.node);
  EXPECT_EQ(cache.evict(1), 1);  // the leaf, then its parent
  EXPECT_EQ(cache.match_length("", a), 2);
  EXPECT_EQ(cache.evict(1), 1);
  EXPECT_EQ(pool.num_free(), 8);
}

// Against a model that keeps every page of every inserted prefix by its content.
TEST(PrefixCache, RandomOperationsKeepTheBooks) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    BlockPool pool(64);
    PrefixCache cache(pool, 2);
    std::vector<std::pair<PrefixCache::Node*, std::vector<int32_t>>> locked;
    for (uint64_t i = 0; i < 300; ++i) {
      const auto x = philox(seed, 3, i);
      std::vector<int32_t> tokens;
      for (uint32_t t = 0; t < 2 * (1 + x[1] % 6); ++t)
        tokens.push_back(static_cast<int32_t>(philox(seed, i, t)[0] % 2));
      if (x[0] % 3 == 0 && pool.num_free() >= static_cast<int32_t>(tokens.size() / 2)) {
        std::vector<int32_t> blocks = take(pool, tokens.size() / 2);
        EXPECT_EQ(cache.insert("", tokens, blocks, 0).tokens, static_cast<int64_t>(tokens.size()));
        EXPECT_EQ(cache.match_length("", tokens), static_cast<int64_t>(tokens.size()));
      } else if (x[0] % 3 == 1) {
        std::vector<int32_t> blocks;
        const PrefixCache::Match match = cache.match("", tokens, blocks);
        EXPECT_EQ(static_cast<int64_t>(blocks.size()) * 2, match.tokens);
        if (match.node != nullptr) {
          cache.lock(match.node);
          tokens.resize(static_cast<size_t>(match.tokens));
          locked.emplace_back(match.node, tokens);
        }
      } else if (!locked.empty() && x[0] % 2 == 0) {
        cache.unlock(locked.back().first);
        locked.pop_back();
      } else {
        cache.evict(static_cast<int32_t>(x[2] % 8));
      }
      EXPECT_EQ(pool.num_free() + cache.evictable_blocks() + cache.locked_blocks(), 64);
      for (const auto& [node, prefix] : locked) {
        EXPECT_EQ(cache.match_length("", prefix), static_cast<int64_t>(prefix.size()));
      }
    }
    for (const auto& [node, prefix] : locked) cache.unlock(node);
    EXPECT_EQ(cache.locked_nodes(), 0);
    cache.clear();
    EXPECT_EQ(pool.num_free(), 64);
  }
}

}  // namespace
}  // namespace erne
