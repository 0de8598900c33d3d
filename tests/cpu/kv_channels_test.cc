// KV caches with fixed scales: attention over them is attention over the decoded codes of quant/,
// which follow the specification.
#include <gtest/gtest.h>

#include <cmath>

#include "cpu/cpu_device.h"
#include "quant/kv_codes.h"
#include "samples.h"

namespace erne::test {
namespace {

constexpr int kHeads = 4;
constexpr int kKvHeads = 2;
constexpr int kDim = 32;
constexpr int64_t kKvWidth = kKvHeads * kDim;
constexpr int64_t kWidth = kHeads * kDim + 2 * kKvWidth;

struct Scales {
  std::vector<KvScale> keys, values;
  std::vector<float> key_factor, key_out, value_factor, value_out;
  KvChannels channels() const {
    return {key_factor.data(), key_out.data(), value_factor.data(), value_out.data()};
  }
};

// Channels of very different size; some values clip, one channel is dead.
Scales make_scales(float largest) {
  Scales s;
  for (int64_t i = 0; i < kKvWidth; ++i) {
    s.keys.push_back(kv_scale(i == 5 ? 0.0F : 0.5F + 0.1F * static_cast<float>(i % 17), largest));
    s.values.push_back(kv_scale(2.0F + 0.05F * static_cast<float>(i), largest));
    s.key_factor.push_back(s.keys.back().factor);
    s.key_out.push_back(s.keys.back().out);
    s.value_factor.push_back(s.values.back().factor);
    s.value_out.push_back(s.values.back().out);
  }
  return s;
}

std::vector<float> attend(Device& device, const Values& source, DType cache_type,
                          const KvChannels* channels, int64_t chunk) {
  const int64_t tokens = source.tensor().dim(0);
  const Values qkv(source.tensor().dtype, {tokens, kWidth}, source.floats());
  const KvCacheSpec spec{1, kKvHeads, kDim, 16, cache_type, channels != nullptr};
  const auto blocks = static_cast<int32_t>((tokens + 15) / 16);
  KvCache cache = device.make_kv_cache(spec, blocks);
  std::vector<int32_t> table;
  for (int32_t b = 0; b < blocks; ++b) table.push_back(b);
  const std::vector<float> no_rotation(kDim / 2, 0.0F);
  std::vector<float> all;
  for (int64_t first = 0; first < tokens; first += chunk) {
    const int64_t count = std::min(chunk, tokens - first);
    const std::vector<int32_t> ids(static_cast<size_t>(count));
    std::vector<int32_t> positions;
    for (int64_t i = 0; i < count; ++i) positions.push_back(static_cast<int32_t>(first + i));
    const std::vector<int32_t> starts = {0, static_cast<int32_t>(count)};
    const std::vector<int32_t> context = {static_cast<int32_t>(first + count)};
    const Batch batch{ids, positions, starts, context, table, blocks, {}};
    const Tensor rows = qkv.rows(first, first + count);
    const Values out(qkv.tensor().dtype, {count, kHeads * kDim});
    device.rope_store(rows, batch, {0, kHeads, no_rotation.data(), channels}, cache);
    device.attention(rows, batch, {0, kHeads, 0.2F, channels}, cache, out.tensor());
    const std::vector<float> part = out.floats();
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

class KvChannelsTest : public testing::TestWithParam<std::tuple<std::string, DType>> {};

TEST_P(KvChannelsTest, AttentionOverTheDecodedCodes) {
  const auto& [isa, type] = GetParam();
  const bool int8 = type == DType::kI8;
  const Scales scales = make_scales(int8 ? 127.0F : 448.0F);
  const KvChannels channels = scales.channels();
  const int64_t tokens = 70;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const auto device = make_cpu_device(2, isa);
    const Values qkv(dtype, {tokens, kWidth}, random_values(tokens * kWidth, 3));
    std::vector<float> decoded = qkv.floats();
    std::vector<uint8_t> codes(static_cast<size_t>(kKvWidth));
    for (int64_t t = 0; t < tokens; ++t) {
      float* at = decoded.data() + t * kWidth + kHeads * kDim;
      for (const auto* s : {&scales.keys, &scales.values}) {
        if (int8) {
          kv_int8_encode(at, kKvWidth, s->data(), nullptr, codes.data());
          kv_int8_decode(codes.data(), kKvWidth, s->data(), nullptr, at);
        } else {
          kv_fp8_encode(at, kKvWidth, s->data(), codes.data());
          kv_fp8_decode(codes.data(), kKvWidth, s->data(), at);
        }
        at += kKvWidth;
      }
    }
    const std::vector<float> expected = attend(
        *device, Values(DType::kF32, {tokens, kWidth}, decoded), DType::kF32, nullptr, tokens);
    const std::vector<float> whole = attend(*device, qkv, type, &channels, tokens);
    const std::vector<double> wide(expected.begin(), expected.end());
    // Over int8 codes queries and probabilities have 15 bits (kernels/attention_int8.inc).
    const double bound = dtype != DType::kF32 ? 1e-2 : int8 ? 1e-4 : 1e-5;
    EXPECT_LT(relative_l2(whole, wide), bound);
    for (const int64_t chunk : {1, 13})
      EXPECT_EQ(attend(*device, qkv, type, &channels, chunk), whole) << chunk;
  }
}

std::string name_of(const testing::TestParamInfo<std::tuple<std::string, DType>>& test) {
  return std::get<0>(test.param) + (std::get<1>(test.param) == DType::kI8 ? "_int8" : "_fp8");
}

INSTANTIATE_TEST_SUITE_P(Isas, KvChannelsTest,
                         testing::Combine(testing::ValuesIn(available_isas()),
                                          testing::Values(DType::kI8, DType::kF8E4M3)),
                         name_of);

}  // namespace
}  // namespace erne::test
