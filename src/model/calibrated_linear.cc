#include "model/calibrated_linear.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "model/quantized_rows.h"
#include "model/quantized_tensors.h"

namespace erne {
namespace {

constexpr int64_t kRowsAtOnce = 16;  // that share the reading of a solver's factor
constexpr int64_t kNumbersAtOnce = int64_t{1} << 22;

// Codes in memory. Four bits take a byte: a layer's codes are never more than half its numbers.
class HeldCodes final : public CodeRows {
 public:
  HeldCodes(CodeFormat format, int64_t rows, int64_t cols)
      : CodeRows(format, rows, cols),
        codes_(static_cast<size_t>(rows * cols)),
        scales_(static_cast<size_t>(rows * groups())),
        mins_(format.has_min ? scales_.size() : size_t{0}) {}

  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    std::copy_n(codes_.begin() + row * cols(), cols(), codes);
    std::copy_n(scales_.begin() + row * groups(), groups(), scales);
    if (format().has_min) std::copy_n(mins_.begin() + row * groups(), groups(), mins);
  }

  int8_t* codes(int64_t row) { return codes_.data() + row * cols(); }
  float* scales(int64_t row) { return scales_.data() + row * groups(); }
  float* mins(int64_t row) { return format().has_min ? mins_.data() + row * groups() : nullptr; }

 private:
  int64_t groups() const { return format().groups(cols()); }

  std::vector<int8_t> codes_;
  std::vector<float> scales_;
  std::vector<float> mins_;
};

using Numbers = std::vector<float>;

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

double squares(const Numbers& values) {
  double total = 0;
  for (const float v : values) total += double{v} * double{v};
  return total;
}

// What all rows add up to.
struct Sums {
  double weights = 0;  // squared
  double outputs = 0;
  double gaps = 0;
  double rounded = 0;
  double written = 0;
  double largest_gap = 0;
};

// Some rows of a linear, so that the numbers of a large one are never all in memory.
class Rows {
 public:
  Rows(const CalibrationJob& job, int64_t first, int64_t count, ThreadPool& pool)
      : job_(job), first_(first), count_(count), cols_(job.weights.cols), pool_(pool) {}

  /// Fills these rows of `codes`.
  void calibrate(HeldCodes& codes, Sums& sums) const;

 private:
  template <typename Body>
  void for_rows(const Body& body) const {
    pool_.parallel_for(count_, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) body(r);
    });
  }
  float in(size_t k) const { return job_.input_scale.empty() ? 1 : job_.input_scale[k]; }
  float out(int64_t row) const {
    return job_.output_scale.empty() ? 1 : job_.output_scale[static_cast<size_t>(first_ + row)];
  }

  Numbers weights() const;
  void scale(Numbers& w) const;
  void round(const Numbers& w, HeldCodes& codes) const;
  void solve(const Numbers& w, HeldCodes& codes) const;
  void take_better(const Numbers& w, Numbers& gaps, std::vector<double>& costs,
                   HeldCodes& codes) const;
  Numbers gaps(const Numbers& w, const HeldCodes& codes, int64_t first_code) const;
  std::vector<double> costs(const Numbers& gaps) const;

  const CalibrationJob& job_;
  int64_t first_;
  int64_t count_;
  int64_t cols_;
  ThreadPool& pool_;
};

Numbers Rows::weights() const {
  Numbers w(static_cast<size_t>(count_ * cols_));
  for_rows([&](int64_t r) { read_row_f32(job_.weights, first_ + r, w.data() + r * cols_); });
  return w;
}

void Rows::scale(Numbers& w) const {
  for_rows([&](int64_t r) {
    float* row = w.data() + r * cols_;
    for (size_t k = 0; k < static_cast<size_t>(cols_); ++k) row[k] = row[k] * in(k) / out(r);
  });
}

void Rows::round(const Numbers& w, HeldCodes& codes) const {
  for_rows([&](int64_t r) {
    const int64_t row = first_ + r;
    round_row(w.data() + r * cols_, cols_, job_.rounding, codes.codes(row), codes.scales(row),
              codes.mins(row));
  });
}

// Into rows 0 … of `codes`.
void Rows::solve(const Numbers& w, HeldCodes& codes) const {
  pool_.parallel_for(count_, kRowsAtOnce, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r += kRowsAtOnce) {
      job_.solver->solve(w.data() + r * cols_, std::min(kRowsAtOnce, end - r), job_.rounding,
                         codes.codes(r), codes.scales(r), codes.mins(r));
    }
  });
}

// w - codes, for unscaled weights and inputs.
Numbers Rows::gaps(const Numbers& w, const HeldCodes& codes, int64_t first_code) const {
  Numbers gaps(w.size());
  for_rows([&](int64_t r) {
    float* gap = gaps.data() + r * cols_;
    const float* row = w.data() + r * cols_;
    dequantize_row(codes, first_code + r, gap);
    for (size_t k = 0; k < static_cast<size_t>(cols_); ++k)
      gap[k] = (row[k] - gap[k]) * out(r) / in(k);
  });
  return gaps;
}

// What each row's gaps cost on the inputs.
std::vector<double> Rows::costs(const Numbers& gaps) const {
  if (job_.inputs == nullptr) return std::vector<double>(static_cast<size_t>(count_));
  return job_.inputs->output_errors(gaps);
}

// The solver's codes where they cost no more than those that are there.
void Rows::take_better(const Numbers& w, Numbers& gaps, std::vector<double>& costs,
                       HeldCodes& codes) const {
  HeldCodes solved(codes.format(), count_, cols_);
  solve(w, solved);
  const Numbers other_gaps = this->gaps(w, solved, 0);
  const std::vector<double> other_costs = this->costs(other_gaps);
  for (int64_t r = 0; r < count_; ++r) {
    const auto at = static_cast<size_t>(r);
    if (other_costs[at] > costs[at]) continue;
    const int64_t row = first_ + r;
    solved.read(r, codes.codes(row), codes.scales(row), codes.mins(row));
    std::copy_n(other_gaps.begin() + r * cols_, cols_, gaps.begin() + r * cols_);
    costs[at] = other_costs[at];
  }
}

void Rows::calibrate(HeldCodes& codes, Sums& sums) const {
  Numbers w = weights();
  sums.weights += squares(w);
  sums.outputs += sum(costs(w));
  {
    const CalibrationJob plain{job_.weights, job_.scheme, job_.rounding, {},
                               {},           nullptr,     job_.inputs};
    const Rows unscaled(plain, first_, count_, pool_);
    unscaled.round(w, codes);
    sums.rounded += sum(costs(unscaled.gaps(w, codes, first_)));
  }
  scale(w);
  round(w, codes);
  Numbers gap = gaps(w, codes, first_);
  std::vector<double> cost = costs(gap);
  if (job_.solver != nullptr) take_better(w, gap, cost, codes);
  sums.gaps += squares(gap);
  sums.written += sum(cost);
  for (const float g : gap) sums.largest_gap = std::max(sums.largest_gap, double{std::fabs(g)});
}

}  // namespace

CalibratedLinear calibrate_linear(const CalibrationJob& job, ThreadPool& pool) {
  const int64_t rows = job.weights.rows;
  const int64_t cols = job.weights.cols;
  auto codes = std::make_shared<HeldCodes>(scheme_format(job.scheme), rows, cols);
  Sums sums;
  const int64_t step = std::max(kRowsAtOnce, kNumbersAtOnce / cols);
  for (int64_t first = 0; first < rows; first += step)
    Rows(job, first, std::min(step, rows - first), pool).calibrate(*codes, sums);

  CalibratedLinear result;
  if (sums.outputs > 0) {
    result.output.rounded = sums.rounded / sums.outputs;
    result.output.written = sums.written / sums.outputs;
  }
  result.output.rows = job.inputs == nullptr ? 0 : job.inputs->rows();
  result.snr_db = 10 * std::log10(sums.weights / sums.gaps);
  result.largest = sums.largest_gap;
  result.codes = std::move(codes);
  result.input_scale.assign(job.input_scale.begin(), job.input_scale.end());
  result.output_scale.assign(job.output_scale.begin(), job.output_scale.end());
  return result;
}

}  // namespace erne
