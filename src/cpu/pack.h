// Weights in the order in which a kernel reads them; written once at load.
#pragma once

#include <span>
#include <string>

#include "base/thread_pool.h"
#include "cpu/kernels.h"
#include "device/device.h"

namespace erne::cpu {

/// Counts up whenever the bytes of a packed weight change their meaning without a change of
/// WeightLayout or CodeLayout: kept weights of another version are refused.
inline constexpr int kPackVersion = 1;

/// "cpu1/panel 32/group 2/align 2/offset 0": what must be equal for kernels to read a weight that
/// was packed elsewhere.
std::string layout_name(const WeightLayout& layout);

/// Units of work of a linear: panels, or gate-up pairs of panels.
int64_t linear_units(const WeightLayout& layout, int64_t n, LinearKind kind);

/// Bytes of a packed [n, k] weight.
size_t packed_bytes(const WeightLayout& layout, int64_t n, int64_t k, DType dtype, LinearKind kind);

/// Packs the stacked blocks into dst (packed_bytes long, zeroed), converting to `dtype` (kF32 or
/// kBF16).
void pack_weight(std::span<const MatrixView> blocks, const WeightLayout& layout, DType dtype,
                 LinearKind kind, ThreadPool& pool, void* dst);

/// What kernels need to know of a format. Throws Error{kUnsupported} for groups other than 0, 32,
/// 64, 128, scale types other than f32, bf16, f16, and fp8 with minima.
CodeLayout code_layout(const CodeFormat& format);

/// Bytes of a packed quantised [n, k] weight.
size_t packed_code_bytes(const WeightLayout& layout, int64_t n, int64_t k, const CodeFormat& format,
                         LinearKind kind);

/// Packs the stacked blocks, all of one format, into dst (packed_code_bytes long, zeroed).
void pack_code_rows(std::span<const CodeRows* const> blocks, const WeightLayout& layout,
                    LinearKind kind, ThreadPool& pool, void* dst);

}  // namespace erne::cpu
