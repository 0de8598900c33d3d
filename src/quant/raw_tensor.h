// A tensor as a checkpoint stores it, before its meaning is known: what readers of packed formats
// take. Its name, type and shape are untrusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace erne {

struct RawTensor {
  std::string name;
  DType dtype = DType::kU8;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  ///< row-major; may be unaligned, must stay mapped

  /// Element `index` of a tensor of T-sized elements, whatever its sign.
  template <typename T>
  T at(int64_t index) const {
    T value;
    const std::byte* from = data.data() + static_cast<size_t>(index) * sizeof(T);
    __builtin_memcpy(&value, from, sizeof(T));
    return value;
  }
};

/// "[2, 3]"
std::string shape_text(std::span<const int64_t> shape);

/// Throws Error{kCorrupt} naming the tensor, what it is and what it must be, unless the dtype is
/// among `dtypes`, the shape is `shape` and the data has exactly its bytes.
void check_tensor(const RawTensor& tensor, std::initializer_list<DType> dtypes,
                  std::initializer_list<int64_t> shape);

/// Throws Error{kInvalidArgument} unless 0 < rows, cols and rows * cols fits an int32 many times.
void check_matrix(int64_t rows, int64_t cols);

/// All values of a floating tensor (f32, f16, bf16) that has been checked.
std::vector<float> float_values(const RawTensor& tensor);

}  // namespace erne
