// Where a conversion takes its weights from: a Hugging Face folder of any layout, or a GGUF file.
// Rows of PT tensors on demand, so that a model never has to be in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "model/layout.h"
#include "tensor/gguf.h"

namespace erne {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  /// The floating type that keeps the values as they are stored (float32 for quantised blocks).
  virtual DType dtype(const ExpectedTensor& tensor) const = 0;
  /// Rows [begin, begin + count) of a PT tensor, dense, as `dtype`, into dst. Bits are kept where
  /// dtype is the stored one.
  virtual void read_rows(const ExpectedTensor& tensor, int64_t begin, int64_t count, DType dtype,
                         std::byte* dst) const = 0;
};

std::unique_ptr<WeightSource> checkpoint_source(const Checkpoint& checkpoint);
/// Checks that the file holds exactly the tensors of `config`, with their shapes; throws
/// Error{kCorrupt, kUnsupported} naming file, tensor and cause. `file` outlives the result.
std::unique_ptr<WeightSource> gguf_source(const GgufFile& file, const TextConfig& config);

}  // namespace erne
