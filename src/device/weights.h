// Weights in a device's own layout: what Device::pack_* returns and its operations take, and what a
// packed folder keeps of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tensor/buffer.h"
#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne {

/// How rows of a linear weight relate: kGateUp holds gate rows then up rows (equal counts) for
/// Epilogue::kSiluMul.
enum class LinearKind : uint8_t { kPlain, kGateUp };

/// A linear weight [n, k] in the layout of the device that packed it. n counts all rows (gate and
/// up both).
struct Linear {
  int64_t n = 0;
  int64_t k = 0;
  DType dtype = DType::kF32;        ///< of the inputs, and of the weight unless quantised
  std::optional<CodeFormat> codes;  ///< how a quantised weight is stored
  Inputs inputs = Inputs::kFull;    ///< of a quantised weight
  float input_absmax = 0;           ///< CodeRows::input_absmax() of all its blocks
  LinearKind kind = LinearKind::kPlain;
  Buffer data;
  Buffer bias;  ///< f32 [n], or empty
  size_t bytes() const { return data.size() + bias.size(); }
};

/// A linear weight as Device::pack_* left it, in memory that outlives every use: a mapped file.
struct PackedWeight {
  std::string layout;  ///< Device::weight_layout() of the device that packed it
  int64_t n = 0;
  int64_t k = 0;
  DType dtype = DType::kBF16;       ///< as in Linear
  std::optional<CodeFormat> codes;  ///< as in Linear
  float input_absmax = 0;           ///< as in Linear
  LinearKind kind = LinearKind::kPlain;
  std::span<const std::byte> data;  ///< aligned to 64 bytes, with 64 readable bytes after its end
};

/// Where a packed weight is read from while the model runs.
enum class WeightPlace : uint8_t {
  kMapped,  ///< where it lies: nothing is copied
  kCopied,  ///< memory of the device, in huge pages where the system has them
};

/// All experts' linears of one place in a layer, of one shape and format.
struct Experts {
  std::vector<Linear> linears;
  Buffer index;  ///< the device's own: where each one's data is
};

/// An embedding table [V, H].
struct Embedding {
  MatrixView view;  ///< the rows in host memory, or, with `data`, in the device's own
  Buffer data;      ///< empty: rows are read where the checkpoint is mapped
};

}  // namespace erne
