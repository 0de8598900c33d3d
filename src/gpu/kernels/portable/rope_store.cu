// Tier 0 of rope_store: a block a token, a warp a head.
#include "gpu/kernels/attention.h"
#include "gpu/kernels/portable/kv_rows.h"
#include "gpu/kernels/portable/sin_cos.h"
#include "gpu/rt/gpu.h"

namespace erne::gpu {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / GPU_WARP;

struct Pair {
  float even, odd;
};

// Turned by the pair's angle and rounded as rows of T are.
template <typename T>
GPU_DEVICE Pair rotate(Pair x, float sin, float cos) {
  const Pair y{gpu_fma(x.even, cos, -(x.odd * sin)), gpu_fma(x.odd, cos, x.even * sin)};
  if constexpr (sizeof(T) == 2) return {to_f32(to_bf16(y.even)), to_f32(to_bf16(y.odd))};
  return y;
}

template <typename T>
class HeadRow {
 public:
  GPU_DEVICE HeadRow(const T* row, bool turned, const float* sin, const float* cos)
      : row_(row), turned_(turned), sin_(sin), cos_(cos) {}
  GPU_DEVICE Pair pair(int p) const {
    const Pair x{load_number(row_ + 2 * p), load_number(row_ + 2 * p + 1)};
    return turned_ ? rotate<T>(x, sin_[p], cos_[p]) : x;
  }

 private:
  const T* row_;
  bool turned_;
  const float* sin_;
  const float* cos_;
};

GPU_DEVICE uint32_t magnitude(float x) { return std::bit_cast<uint32_t>(x) & 0x7FFFFFFFU; }

// One row into the cache: row `to` of the layer.
template <typename T, KvType kType>
GPU_DEVICE void store_row(const KvLayer& kv, int64_t to, const HeadRow<T>& from) {
  const int half = kv.head_dim / 2;
  float scale = 1.0F;
  if constexpr (coded(kType)) {
    uint32_t largest = 0;  // magnitudes order like their bits, NaN above all
    for (int p = lane_index(); p < half; p += GPU_WARP) {
      const Pair x = from.pair(p);
      const uint32_t even = magnitude(x.even);
      const uint32_t odd = magnitude(x.odd);
      const uint32_t larger = even > odd ? even : odd;
      largest = larger > largest ? larger : largest;
    }
    const bf16 rounded = scale_of<kType>(std::bit_cast<float>(warp_max(largest)));
    scale = to_f32(rounded);
    if (lane_index() == 0) kv.scales[to] = rounded;
  }
  uint8_t* row = kv.data + to * kv.row * element_bytes(kType);
  for (int p = lane_index(); p < kv.row / 2; p += GPU_WARP) {
    const Pair x = p < half ? from.pair(p) : Pair{0.0F, 0.0F};
    if constexpr (kType == KvType::kF32) {
      reinterpret_cast<float*>(row)[2 * p] = x.even;
      reinterpret_cast<float*>(row)[2 * p + 1] = x.odd;
    } else if constexpr (kType == KvType::kBF16) {
      reinterpret_cast<bf16*>(row)[2 * p] = to_bf16(x.even);
      reinterpret_cast<bf16*>(row)[2 * p + 1] = to_bf16(x.odd);
    } else {
      row[2 * p] = encode<kType>(x.even, scale);
      row[2 * p + 1] = encode<kType>(x.odd, scale);
    }
  }
}

template <typename T, KvType kType>
GPU_KERNEL rope_store_kernel(RopeStoreCall call) {
  GPU_SHARED float sines[kMostHeadDim / 2];
  GPU_SHARED float cosines[kMostHeadDim / 2];
  const KvLayer& kv = call.kv;
  const int64_t token = block_x();
  const int32_t position = call.step.positions[token];
  const int half = kv.head_dim / 2;
  for (int j = thread_index(); j < half; j += kThreads) {
    const SinCos angle = sin_cos(static_cast<float>(position) * call.inv_freq[j]);
    sines[j] = angle.sin;
    cosines[j] = angle.cos;
  }
  block_sync();
  const int64_t sequence = call.step.sequence_of[token];
  const int64_t block =
      call.step.block_table[sequence * call.step.max_blocks + position / kv.block_tokens];
  const int64_t slot = position % kv.block_tokens;
  const int heads = call.num_heads + 2 * kv.kv_heads;
  T* rows = static_cast<T*>(call.qkv) + token * heads * kv.head_dim;
  for (int head = warp_index(); head < heads; head += kWarps) {
    T* row = rows + int64_t{head} * kv.head_dim;
    const HeadRow<T> from(row, head < call.num_heads + kv.kv_heads, sines, cosines);
    if (head < call.num_heads) {
      for (int p = lane_index(); p < half; p += GPU_WARP) {
        const Pair x = from.pair(p);
        store_number(row + 2 * p, x.even);
        store_number(row + 2 * p + 1, x.odd);
      }
      continue;
    }
    const int other = head - call.num_heads;
    const Part part = other < kv.kv_heads ? Part::kKey : Part::kValue;
    store_row<T, kType>(kv, kv_row(kv, block, part, other % kv.kv_heads, slot), from);
  }
}

template <typename T>
void start(Stream stream, const RopeStoreCall& call) {
  const Grid grid{call.step.tokens, 1, 1};
  switch (call.kv.type) {
    case KvType::kF32:
      if constexpr (sizeof(T) == 4)
        launch(stream, rope_store_kernel<T, KvType::kF32>, grid, kThreads, call);
      return;
    case KvType::kBF16:
      return launch(stream, rope_store_kernel<T, KvType::kBF16>, grid, kThreads, call);
    case KvType::kInt8:
      return launch(stream, rope_store_kernel<T, KvType::kInt8>, grid, kThreads, call);
    case KvType::kFp8:
      return launch(stream, rope_store_kernel<T, KvType::kFp8>, grid, kThreads, call);
  }
}

}  // namespace

void run_rope_store(Stream stream, const RopeStoreCall& call) {
  if (call.bf16_rows) {
    start<bf16>(stream, call);
  } else {
    start<float>(stream, call);
  }
}

}  // namespace erne::gpu
