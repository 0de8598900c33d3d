#include "model/dummy_tensors.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/rng.h"
#include "model/config_keys.h"
#include "model/layout.h"

namespace erne {
namespace {

constexpr int64_t kMostNumbers = int64_t{1} << 24;  // random ones
constexpr double kUsualRange = 0.02;

bool is_random(const ExpectedTensor& t) {
  return t.kind != TensorKind::kVector && t.kind != TensorKind::kCorrection;
}

/// Four normal numbers from one counter (Box and Muller 1958).
void write_normals(uint64_t seed, uint64_t counter, double scale, bf16* to, int64_t count) {
  const auto words = philox(seed, 0, counter);
  float four[4];
  for (size_t pair = 0; pair < 2; ++pair) {
    const double u = (static_cast<double>(words[2 * pair]) + 1) * 0x1p-32;  // in (0, 1]
    const double angle = 2 * std::numbers::pi * static_cast<double>(words[2 * pair + 1]) * 0x1p-32;
    const double radius = scale * std::sqrt(-2 * std::log(u));
    four[2 * pair] = static_cast<float>(radius * std::cos(angle));
    four[2 * pair + 1] = static_cast<float>(radius * std::sin(angle));
  }
  convert_from_f32(four, DType::kBF16, to, static_cast<size_t>(count));
}

/// The window of [rows, cols] among `numbers` random ones that `hash` picks. Rows begin an odd
/// distance apart, so that those of a window differ.
MatrixView window(const bf16* pool, int64_t numbers, const ExpectedTensor& t, uint64_t hash) {
  int64_t stride = t.cols;
  if (t.rows > 1) stride = std::min(stride, (numbers - t.cols) / (t.rows - 1));
  if (stride < t.cols) stride = std::max<int64_t>(1, (stride - 1) | 1);
  const int64_t free = numbers - (stride * (t.rows - 1) + t.cols);
  ERNE_CHECK(free >= 0, "{}: {} rows of {} in {} numbers", t.name, t.rows, t.cols, numbers);
  const auto first = static_cast<int64_t>(hash % static_cast<uint64_t>(free + 1));
  return {pool + first, DType::kBF16, t.rows, t.cols, stride, 1};
}

}  // namespace

DummyTensors make_dummy_tensors(const TextConfig& config, double scale, uint64_t seed) {
  const std::vector<ExpectedTensor> tensors = expected_tensors(config);
  int64_t numbers = 0;
  int64_t longest = 0;   // vector
  int64_t smallest = 0;  // pool that a row of its own start needs
  for (const ExpectedTensor& t : tensors) {
    if (is_random(t)) {
      numbers = std::max(numbers, 2 * t.rows * t.cols);
      smallest = std::max(smallest, 2 * t.rows + t.cols);
    } else {
      longest = std::max(longest, t.cols);
    }
  }
  numbers = std::max(smallest, std::min(numbers, kMostNumbers));
  DummyTensors dummy;
  dummy.pool = Buffer::host(static_cast<size_t>(numbers + 2 * longest) * sizeof(bf16));
  auto* const pool = dummy.pool.as<bf16>();
  for (int64_t i = 0; scale > 0 && i < numbers; i += 4)
    write_normals(seed, static_cast<uint64_t>(i), scale, pool + i,
                  std::min<int64_t>(4, numbers - i));
  bf16* const ones = pool + numbers;
  bf16* const zeros = ones + longest;
  std::fill_n(ones, longest, to_bf16(1));
  std::fill_n(zeros, longest, to_bf16(0));
  for (const ExpectedTensor& t : tensors) {
    const bool norm = t.name.ends_with("norm.weight");
    dummy.views[t.name] = is_random(t)
                              ? window(pool, numbers, t, hash128(t.name.data(), t.name.size()).low)
                              : MatrixView{norm ? ones : zeros, DType::kBF16, 1, t.cols, t.cols, 1};
  }
  return dummy;
}

double initializer_range(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  const Json config = parse_json(read_file(path, kMaxConfigBytes), path.string(), {});
  const auto it = config.find("initializer_range");
  if (it == config.end()) return kUsualRange;
  if (!it->is_number() || !(it->get<double>() > 0)) {
    fail(Code::kInvalidArgument, "{}: initializer_range must be a number above 0, got {}",
         path.string(), it->dump());
  }
  return it->get<double>();
}

}  // namespace erne
