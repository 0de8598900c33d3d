// The device under test, and values in its memory. The same tests run on the emulation (always) and
// on a card (label gpu, skipped without one): see CMakeLists.txt.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "base/error.h"
#include "cpu/samples.h"
#include "device/device.h"
#include "tensor/arena.h"

namespace erne::test {

/// A device of its own for each test.
std::unique_ptr<Device> make_test_device();
/// Runs `body` once for every order in which the device can be made to take threads and blocks.
void for_each_schedule(const std::function<void()>& body);

/// Largest error of float32 logits and hidden states, as a share of the largest one (goldens): the
/// CPU's own bound on the emulation, ten times it on a card, whose sums run in other orders.
double f32_bound();

/// Elements in the device's memory, between guards that must stay as they are.
class DeviceValues {
 public:
  DeviceValues(Device& device, const Values& values)
      : DeviceValues(device, values.tensor().dtype, values.tensor().shape, values.tensor().data) {}
  /// Filled with NaN.
  DeviceValues(Device& device, DType dtype, const Shape& shape)
      : DeviceValues(device, dtype, shape, nullptr) {}

  const Tensor& tensor() const { return tensor_; }
  /// Rows [begin, end) of a rank-2 tensor.
  Tensor rows(int64_t begin, int64_t end) const {
    const auto row_bytes = static_cast<size_t>(tensor_.dim(1)) * dtype_bytes(tensor_.dtype);
    return {tensor_.ptr<uint8_t>() + static_cast<size_t>(begin) * row_bytes,
            tensor_.dtype,
            {end - begin, tensor_.dim(1)}};
  }
  std::vector<float> floats() const {
    const Tensor host = device_.to_host(tensor_);
    std::vector<float> values(static_cast<size_t>(host.elements()));
    convert_to_f32(host.data, host.dtype, values.data(), values.size());
    return values;
  }
  /// Whether the bytes before and behind are as they were.
  bool guards_hold() const {
    const Tensor all = device_.to_host(
        {const_cast<void*>(buffer_.data()), DType::kU8, {static_cast<int64_t>(buffer_.size())}});
    const auto* bytes = all.ptr<uint8_t>();
    for (size_t i = 0; i < kGuard; ++i) {
      if (bytes[i] != 0xFF || bytes[kGuard + tensor_.bytes() + i] != 0xFF) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 256;

  DeviceValues(Device& device, DType dtype, const Shape& shape, const void* values)
      : device_(device) {
    tensor_ = {nullptr, dtype, shape};
    std::vector<float> bytes((2 * kGuard + tensor_.bytes() + 3) / 4);
    std::memset(bytes.data(), 0xFF, bytes.size() * 4);
    if (values != nullptr) std::memcpy(bytes.data() + kGuard / 4, values, tensor_.bytes());
    buffer_ = device.upload(bytes);
    tensor_.data = buffer_.as<uint8_t>() + kGuard;
  }

  Device& device_;
  Buffer buffer_;
  Tensor tensor_;
};

inline std::vector<int32_t> read_ints(Device& device, const int32_t* data, int64_t count) {
  const Tensor host = device.to_host({const_cast<int32_t*>(data), DType::kI32, {count}});
  return {host.ptr<int32_t>(), host.ptr<int32_t>() + count};
}

/// A batch of one sequence of `tokens` new tokens, with the arrays it needs.
struct OneSequence {
  explicit OneSequence(int64_t tokens, std::vector<int32_t> rows = {})
      : ids(static_cast<size_t>(tokens)),
        positions(ids),
        start{0, static_cast<int32_t>(tokens)},
        context{static_cast<int32_t>(tokens)},
        table{0},
        logit_rows(std::move(rows)) {}
  Batch batch() const { return {ids, positions, start, context, table, 1, logit_rows}; }
  std::vector<int32_t> ids, positions, start, context, table, logit_rows;
};

}  // namespace erne::test
