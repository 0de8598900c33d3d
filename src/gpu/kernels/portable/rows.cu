// Tier 0 of rows.h: a block a row.
#include "gpu/kernels/rows.h"
#include "gpu/rt/gpu.h"

namespace erne::gpu {
namespace {

constexpr int kThreads = 256;

template <typename T>
GPU_KERNEL embed_kernel(EmbedCall call) {
  const int64_t row = block_x();
  const T* source = static_cast<const T*>(call.table) + call.ids[row] * call.width;
  float* x = call.x + row * call.width;
  for (int64_t i = thread_index(); i < call.width; i += kThreads) x[i] = to_f32(source[i]);
}

// Four neighbours of a row at once where rows start at multiples of 16 bytes.
GPU_DEVICE void load4(const float* x, int64_t at, int64_t width, float (&value)[4]) {
  if (width % 4 == 0) {
    const Raw16 raw = load16(x + at);
#pragma unroll
    for (int i = 0; i < 4; ++i) value[i] = std::bit_cast<float>(raw.word[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) value[i] = at + i < width ? x[at + i] : 0.0F;
}

// y[r, :] = x[r, :] / sqrt(mean(x^2) + eps) * w, rounded once.
template <typename Y>
GPU_KERNEL rms_norm_kernel(NormCall call) {
  GPU_SHARED float scratch[kThreads / GPU_WARP];
  const int64_t row = block_x();
  const float* x = call.x + (call.picked != nullptr ? call.picked[row] : row) * call.width;
  Y* y = static_cast<Y*>(call.y) + row * call.width;
  float sum = 0;
  for (int64_t at = int64_t{thread_index()} * 4; at < call.width; at += kThreads * 4) {
    float v[4];
    load4(x, at, call.width, v);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum = gpu_fma(v[i], v[i], sum);
  }
  sum = block_sum<kThreads>(sum, scratch);
  const float scale = 1.0F / gpu_sqrt(sum / static_cast<float>(call.width) + call.eps);
  for (int64_t at = int64_t{thread_index()} * 4; at < call.width; at += kThreads * 4) {
    float v[4];
    float w[4];
    load4(x, at, call.width, v);
    load4(call.w, at, call.width, w);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (at + i < call.width) store_number(y + at + i, v[i] * scale * w[i]);
    }
  }
}

GPU_KERNEL combine_kernel(CombineCall call) {
  const int64_t row = block_x();
  const int32_t* slots = call.slot_of + row * call.top_k;
  const float* weights = call.weights + row * call.top_k;
  for (int64_t i = thread_index(); i < call.width; i += kThreads) {
    float sum = call.x[row * call.width + i];
    for (int64_t j = 0; j < call.top_k; ++j)
      sum = gpu_fma(weights[j], call.y[slots[j] * call.width + i], sum);
    call.x[row * call.width + i] = sum;
  }
}

}  // namespace

void run_embed(Stream stream, const EmbedCall& call) {
  const Grid grid{call.rows, 1, 1};
  if (call.table_type == DType::kF32) {
    launch(stream, embed_kernel<float>, grid, kThreads, call);
  } else if (call.table_type == DType::kBF16) {
    launch(stream, embed_kernel<bf16>, grid, kThreads, call);
  } else {
    launch(stream, embed_kernel<f16>, grid, kThreads, call);
  }
}

void run_rms_norm(Stream stream, const NormCall& call) {
  const Grid grid{call.rows, 1, 1};
  if (call.y_bf16) {
    launch(stream, rms_norm_kernel<bf16>, grid, kThreads, call);
  } else {
    launch(stream, rms_norm_kernel<float>, grid, kThreads, call);
  }
}

void run_combine(Stream stream, const CombineCall& call) {
  launch(stream, combine_kernel, Grid{call.rows, 1, 1}, kThreads, call);
}

}  // namespace erne::gpu
