// Buffers of a pool: apart from each other, zeroed, aligned, and alive after the pool.
#include "tensor/host_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace erne {
namespace {

TEST(HostPool, BuffersStandApartAndAreZeroed) {
  HostPool pool;
  std::vector<Buffer> buffers;
  // More than one chunk of 64 MB, small and large ones mixed.
  for (size_t i = 0; i < 120; ++i) buffers.push_back(pool.take((i * 37 % 97 + 1) * 20'000 + i));
  for (size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffers[i].data()) % 64, 0U);
    const auto* bytes = buffers[i].as<uint8_t>();
    for (size_t b = 0; b < buffers[i].size(); b += 997) ASSERT_EQ(bytes[b], 0) << i;
    ASSERT_EQ(bytes[buffers[i].size() + 63], 0) << "readable after the end";
    std::memset(buffers[i].data(), static_cast<int>(i + 1), buffers[i].size());
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    const auto* bytes = buffers[i].as<uint8_t>();
    ASSERT_EQ(bytes[0], i + 1);
    ASSERT_EQ(bytes[buffers[i].size() - 1], i + 1);
  }
}

TEST(HostPool, BuffersOutliveThePoolAndOneAnother) {
  auto pool = std::make_unique<HostPool>();
  Buffer first = pool->take(1 << 20);
  Buffer second = pool->take(100);
  Buffer large = pool->take(size_t{40} << 20);
  EXPECT_EQ(large.size(), size_t{40} << 20);
  EXPECT_TRUE(pool->take(0).empty());
  pool.reset();
  std::memset(first.data(), 1, first.size());
  first = Buffer();
  std::memset(second.data(), 2, second.size());
  std::memset(large.data(), 3, large.size());
  EXPECT_EQ(second.as<uint8_t>()[99], 2);
}

}  // namespace
}  // namespace erne
