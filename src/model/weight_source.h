// Where a conversion takes its weights from: a Hugging Face folder of any layout, or a GGUF file.
// Rows of PT tensors on demand, so that a model never has to be in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "model/layout.h"
#include "tensor/code_rows.h"
#include "tensor/gguf.h"

namespace erne {

/// A weight in the precision of its file.
struct KeptCodes {
  std::shared_ptr<const CodeRows> rows;  ///< null: the file holds numbers, or nothing exact exists
  std::string type;                      ///< "Q4_1"
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  /// The floating type that keeps the values as they are stored (float32 for quantised blocks).
  virtual DType dtype(const ExpectedTensor& tensor) const = 0;
  /// Rows [begin, begin + count) of a PT tensor, dense, as `dtype`, into dst. Bits are kept where
  /// dtype is the stored one.
  virtual void read_rows(const ExpectedTensor& tensor, int64_t begin, int64_t count, DType dtype,
                         std::byte* dst) const = 0;
  /// The codes of a linear, where they give what read_rows() gives as float32. lm_head.weight of a
  /// tied model: those of the embedding.
  virtual KeptCodes codes(const ExpectedTensor& /*tensor*/) const { return {}; }
};

std::unique_ptr<WeightSource> checkpoint_source(const Checkpoint& checkpoint);
/// Checks that the file holds exactly the tensors of `config`, with their shapes; throws
/// Error{kCorrupt, kUnsupported} naming file, tensor and cause. `file` outlives the result.
std::unique_ptr<WeightSource> gguf_source(const GgufFile& file, const TextConfig& config);

}  // namespace erne
