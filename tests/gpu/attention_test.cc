// rope_store() and attention() on a GPU: against the CPU over head shapes, cache types and block
// sizes, and bit for bit against themselves whatever the chunking, the batch and the cut of a
// context over blocks.
#include <gtest/gtest.h>

#include "cpu/cpu_device.h"
#include "gpu/test_device.h"

namespace erne::test {
namespace {

struct Heads {
  int kv_heads, group, head_dim;
  int queries() const { return kv_heads * group; }
  int width() const { return (queries() + 2 * kv_heads) * head_dim; }
  int out_width() const { return queries() * head_dim; }
};

std::vector<float> inverse_frequencies(int head_dim) {
  std::vector<float> values;
  for (int j = 0; j < head_dim / 2; ++j) {
    values.push_back(1.0F /
                     std::pow(500000.0F, static_cast<float>(2 * j) / static_cast<float>(head_dim)));
  }
  return values;
}

struct Piece {
  const std::vector<float>* qkv;  ///< the whole sequence
  int sequence, begin, end;
  std::vector<float>* out;
};

/// Sequences on one device, in blocks of a scattered order and memory full of NaN.
class Runner {
 public:
  Runner(std::unique_ptr<Device> device, const Heads& heads, DType dtype, DType cache,
         int block_tokens)
      : device_(std::move(device)), heads_(heads), dtype_(dtype) {
    inv_freq_ = device_->upload(inverse_frequencies(heads.head_dim));
    const KvCacheSpec spec = {2, heads.kv_heads, heads.head_dim, block_tokens, cache};
    cache_ = device_->make_kv_cache(spec, kBlocks);
    device_->fill(cache_.data, 0xFF);
  }

  void step(const std::vector<Piece>& pieces) {
    std::vector<float> rows;
    std::vector<int32_t> positions, start = {0}, context, table;
    for (const Piece& piece : pieces) {
      rows.insert(rows.end(), piece.qkv->begin() + piece.begin * heads_.width(),
                  piece.qkv->begin() + piece.end * heads_.width());
      for (int t = piece.begin; t < piece.end; ++t) positions.push_back(t);
      start.push_back(static_cast<int32_t>(positions.size()));
      context.push_back(piece.end);
      for (int b = 0; b < kMaxBlocks; ++b)
        table.push_back((piece.sequence * kMaxBlocks + b) * 37 % kBlocks);
    }
    const auto tokens = static_cast<int64_t>(positions.size());
    const Batch batch = {positions, positions, start, context, table, kMaxBlocks, {}};
    device_->begin_step(batch);
    const DeviceValues qkv(*device_, Values(dtype_, {tokens, heads_.width()}, rows));
    const DeviceValues out(*device_, dtype_, {tokens, heads_.out_width()});
    device_->rope_store(qkv.tensor(), batch, {1, heads_.queries(), inv_freq_.as<float>()}, cache_);
    const float scale = 1.0F / std::sqrt(static_cast<float>(heads_.head_dim));
    device_->attention(qkv.tensor(), batch, {1, heads_.queries(), scale}, cache_, out.tensor());
    const std::vector<float> values = out.floats();
    EXPECT_TRUE(out.guards_hold() && qkv.guards_hold());
    auto at = values.begin();
    for (const Piece& piece : pieces) {
      const auto end = at + int64_t{piece.end - piece.begin} * heads_.out_width();
      piece.out->insert(piece.out->end(), at, end);
      at = end;
    }
  }

 private:
  static constexpr int kMaxBlocks = 40;
  static constexpr int kBlocks = 128;

  std::unique_ptr<Device> device_;
  Heads heads_;
  DType dtype_;
  Buffer inv_freq_;
  KvCache cache_;
};

/// Types of the computation and of the cache.
struct Types {
  DType dtype, cache;
};

class GpuAttention : public testing::TestWithParam<Types> {
 protected:
  Runner ours(const Heads& heads, int block_tokens) const {
    return {make_test_device(), heads, GetParam().dtype, GetParam().cache, block_tokens};
  }
  Runner cpu(const Heads& heads) const {
    return {make_cpu_device(1, "generic"), heads, GetParam().dtype, GetParam().cache, 16};
  }
  std::vector<float> sequence(const Heads& heads, int tokens, uint32_t seed) const {
    return Values(GetParam().dtype, {tokens, heads.width()},
                  random_values(int64_t{tokens} * heads.width(), seed))
        .floats();
  }
};

TEST_P(GpuAttention, MatchesTheCpuOverHeadShapes) {
  for (const Heads heads : {Heads{1, 1, 16},
                            {2, 3, 64},
                            {1, 5, 128},
                            {1, 8, 80},
                            {1, 2, 20},
                            {1, 16, 8},
                            {2, 9, 32},
                            {1, 1, 256}}) {
    for (const int tokens : {1, 33, heads.head_dim == 64 ? 290 : 17}) {
      SCOPED_TRACE(testing::Message() << heads.kv_heads << " x " << heads.group << " x "
                                      << heads.head_dim << ", " << tokens);
      const std::vector<float> qkv = sequence(heads, tokens, 11);
      std::vector<float> out, expected;
      ours(heads, tokens == 33 ? 5 : 64).step({{&qkv, 0, 0, tokens, &out}});
      cpu(heads).step({{&qkv, 0, 0, tokens, &expected}});
      const std::vector<double> exact(expected.begin(), expected.end());
      // Angles round alike but for a few, so now and then a key falls on the other side.
      const double bound = GetParam().cache == DType::kF32 ? 2e-6 : 5e-5;
      EXPECT_LE(relative_l2(out, exact), std::max(bound, 1.5 * tolerance(GetParam().dtype)));
    }
  }
}

TEST_P(GpuAttention, SameBitsWhateverTheChunkingBatchAndBlocks) {
  const Heads heads{2, 5, 32};
  const std::vector<float> a = sequence(heads, 300, 12);
  const std::vector<float> b = sequence(heads, 40, 13);
  std::vector<float> whole;
  ours(heads, 64).step({{&a, 0, 0, 300, &whole}});
  // Few rows over a long context are cut over blocks, many are not.
  for (const int chunk : {1, 3, 100}) {
    Runner runner = ours(heads, chunk == 100 ? 16 : 48);
    std::vector<float> parts, other;
    runner.step({{&a, 1, 0, 270, &parts}});
    for (int t = 270; t < 300; t += chunk) {
      std::vector<Piece> pieces = {{&a, 1, t, std::min(300, t + chunk), &parts}};
      if (t % 2 == 0) {
        const int done = static_cast<int>(other.size()) / heads.out_width();
        pieces.insert(pieces.begin(), {&b, 2, done, done + 1, &other});
      }
      runner.step(pieces);
    }
    ASSERT_EQ(parts, whole) << "chunks of " << chunk;
  }
}

TEST_P(GpuAttention, KeepsZerosAndTinyRowsFinite) {
  const Heads heads{1, 2, 32};
  for (const float value : {0.0F, 1e-37F}) {
    const std::vector<float> qkv(static_cast<size_t>(20 * heads.width()), value);
    std::vector<float> out;
    ours(heads, 16).step({{&qkv, 0, 0, 20, &out}});
    for (const float x : out) ASSERT_LE(std::abs(x), 1e-36F);
  }
}

TEST_P(GpuAttention, SameBitsInAnyOrderOfThreads) {
  const Heads heads{1, 3, 48};
  const std::vector<float> qkv = sequence(heads, 300, 15);
  std::vector<float> first;
  for_each_schedule([&] {
    std::vector<float> out;
    Runner runner = ours(heads, 16);
    runner.step({{&qkv, 0, 0, 299, &out}});
    runner.step({{&qkv, 0, 299, 300, &out}});
    if (first.empty()) first = out;
    EXPECT_EQ(out, first);
  });
}

TEST(GpuKvCache, RefusesShapesItDoesNotHold) {
  const auto device = make_test_device();
  EXPECT_THROW(device->kv_block_bytes({1, 1, 63, 16, DType::kBF16}), Error);
  EXPECT_THROW(device->kv_block_bytes({1, 1, 258, 16, DType::kBF16}), Error);
  EXPECT_THROW(device->kv_block_bytes({1, 1, 64, 16, DType::kF16}), Error);
  // 2 layers, K and V of 3 heads, 16 positions of 128 codes with a scale each.
  EXPECT_EQ(device->kv_block_bytes({2, 3, 128, 16, DType::kI8}), 2U * 2 * 3 * 16 * (128 + 2));
}

INSTANTIATE_TEST_SUITE_P(
    Types, GpuAttention,
    testing::Values(Types{DType::kF32, DType::kF32}, Types{DType::kF32, DType::kBF16},
                    Types{DType::kF32, DType::kI8}, Types{DType::kBF16, DType::kBF16},
                    Types{DType::kBF16, DType::kI8}, Types{DType::kBF16, DType::kF8E4M3}),
    [](const auto& which) {
      return std::string(dtype_name(which.param.dtype)) + "_" +
             std::string(dtype_name(which.param.cache));
    });

}  // namespace
}  // namespace erne::test
