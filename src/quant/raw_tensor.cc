#include "quant/raw_tensor.h"

#include <algorithm>

#include "base/error.h"

namespace erne {

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

void check_tensor(const RawTensor& tensor, std::initializer_list<DType> dtypes,
                  std::initializer_list<int64_t> shape) {
  if (std::find(dtypes.begin(), dtypes.end(), tensor.dtype) == dtypes.end()) {
    std::string names;
    for (const DType dtype : dtypes) {
      names += (names.empty() ? "" : " or ") + std::string(dtype_name(dtype));
    }
    fail(Code::kCorrupt, "{}: type is {}, expected {}", tensor.name, dtype_name(tensor.dtype),
         names);
  }
  if (!std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end())) {
    fail(Code::kCorrupt, "{}: shape is {}, expected {}", tensor.name, shape_text(tensor.shape),
         shape_text(std::span(shape.begin(), shape.size())));
  }
  uint64_t bytes = dtype_bytes(tensor.dtype);
  for (const int64_t dim : shape) bytes *= static_cast<uint64_t>(dim);
  if (tensor.data.size() != bytes) {
    fail(Code::kCorrupt, "{}: {} bytes, but {} of {} has {}", tensor.name, tensor.data.size(),
         shape_text(tensor.shape), dtype_name(tensor.dtype), bytes);
  }
}

void check_matrix(int64_t rows, int64_t cols) {
  constexpr int64_t kMost = int64_t{1} << 31;
  if (rows < 1 || cols < 1 || rows > kMost || cols > kMost / 8) {
    fail(Code::kInvalidArgument, "a quantised matrix of {} rows and {} columns", rows, cols);
  }
}

std::vector<float> float_values(const RawTensor& tensor) {
  std::vector<float> values(tensor.data.size() / dtype_bytes(tensor.dtype));
  convert_to_f32(tensor.data.data(), tensor.dtype, values.data(), values.size());
  return values;
}

}  // namespace erne
