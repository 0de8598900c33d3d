#include "quant/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/thread_pool.h"

namespace erne {
namespace {

constexpr int64_t kBlock = 128;  // inputs solved before the others hear of it; a multiple of groups
constexpr int64_t kTile = 256;   // columns of a row that stay in the first-level cache
constexpr int64_t kPanel = 64;   // columns of a factored panel, and of a tile of the inverse

template <typename Body>
void for_each_row(ThreadPool* pool, int64_t count, const Body& body) {
  if (pool == nullptr) return body(0, count);
  pool->parallel_for(count, 1, [&](int64_t begin, int64_t end, int) { body(begin, end); });
}

template <typename T>
void subtract_scaled(T* y, const T* x, T factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] -= factor * x[i];
}

// Columns [begin, end) of the factor, whose updates from columns before have been applied. Returns
// the column that is not positive definite, or -1.
int64_t factor_panel(double* a, int64_t n, int64_t begin, int64_t end) {
  std::vector<double> column(static_cast<size_t>(end - begin));
  for (int64_t j = begin; j < end; ++j) {
    const double square = a[j * n + j];
    if (!(square > 0) || !std::isfinite(square)) return j;
    const double root = std::sqrt(square);
    a[j * n + j] = root;
    for (int64_t i = j + 1; i < n; ++i) a[i * n + j] /= root;
    for (int64_t k = j + 1; k < end; ++k) column[static_cast<size_t>(k - begin)] = a[k * n + j];
    for (int64_t i = j + 1; i < n; ++i) {
      subtract_scaled(a + i * n + j + 1, column.data() + (j + 1 - begin), a[i * n + j],
                      std::min(i + 1, end) - (j + 1));
    }
  }
  return -1;
}

// a [n, n], lower half: a = L L^T in place, right-looking. Returns as factor_panel.
int64_t factor(std::vector<double>& matrix, int64_t n, ThreadPool* pool) {
  double* a = matrix.data();
  std::vector<double> panel(static_cast<size_t>(kPanel * n));  // transposed: its rows are columns
  for (int64_t begin = 0; begin < n; begin += kPanel) {
    const int64_t end = std::min(begin + kPanel, n);
    if (const int64_t broken = factor_panel(a, n, begin, end); broken >= 0) return broken;
    for (int64_t i = end; i < n; ++i) {
      for (int64_t k = begin; k < end; ++k)
        panel[static_cast<size_t>((k - begin) * n + i)] = a[i * n + k];
    }
    for_each_row(pool, n - end, [&](int64_t first, int64_t last) {
      for (int64_t i = end + first; i < end + last; ++i) {
        for (int64_t j = end; j <= i; j += kTile) {
          const int64_t count = std::min(kTile, i + 1 - j);
          for (int64_t k = begin; k < end; ++k)
            subtract_scaled(a + i * n + j, &panel[static_cast<size_t>((k - begin) * n + j)],
                            a[i * n + k], count);
        }
      }
    });
  }
  return -1;
}

// Columns [begin, end) of L^-1, into the upper triangular u with both orders reversed.
void invert_columns(const std::vector<double>& l, int64_t n, int64_t begin, int64_t end, float* u) {
  const int64_t width = end - begin;
  std::vector<double> x(static_cast<size_t>((n - begin) * width));
  for (int64_t i = begin; i < n; ++i) {
    double* row = &x[static_cast<size_t>((i - begin) * width)];
    if (i < end) row[i - begin] = 1;
    const double* factors = &l[static_cast<size_t>(i * n)];
    for (int64_t k = begin; k < i; ++k)
      subtract_scaled(row, &x[static_cast<size_t>((k - begin) * width)], factors[k], width);
    for (int64_t c = 0; c < width; ++c) {
      row[c] /= factors[i];
      if (begin + c <= i) u[(n - 1 - i) * n + n - 1 - begin - c] = static_cast<float>(row[c]);
    }
  }
}

}  // namespace

// One output on its way.
struct GptqSolver::Row {
  int8_t* codes;
  float* scales;
  float* mins;
  std::vector<float> left;    // the weights in order, with the errors of those before spread
  std::vector<float> errors;  // [kBlock] of the current block
};

GptqSolver::GptqSolver(std::vector<double> hessian, int64_t inputs, const GptqOptions& options,
                       ThreadPool* pool)
    : inputs_(inputs), options_(options) {
  if (inputs < 1 || std::cmp_not_equal(hessian.size(), inputs * inputs)) {
    fail(Code::kInvalidArgument, "a Hessian of {} values for {} inputs", hessian.size(), inputs);
  }
  prepare(hessian);
  // H = M M^T with M upper triangular and U = M^-1: the lower factor of H in reverse.
  if (const int64_t broken = factor(hessian, inputs, pool); broken >= 0) {
    fail(Code::kInvalidArgument,
         "the Hessian is not positive definite at input {}; more damping than {} may help",
         order_[static_cast<size_t>(inputs - 1 - broken)], options_.damping);
  }
  inverse_.assign(hessian.size(), 0);
  const int64_t tiles = (inputs + kPanel - 1) / kPanel;
  for_each_row(pool, tiles, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t)
      invert_columns(hessian, inputs, t * kPanel, std::min((t + 1) * kPanel, inputs),
                     inverse_.data());
  });
}

// Dead inputs, order and damping; leaves the matrix in reversed order.
void GptqSolver::prepare(std::vector<double>& hessian) {
  const auto n = static_cast<size_t>(inputs_);
  std::vector<double> diagonal(n);
  dead_.resize(n);
  for (size_t k = 0; k < n; ++k) {
    dead_[k] = hessian[k * n + k] == 0 ? 1 : 0;
    diagonal[k] = dead_[k] != 0 ? 1 : hessian[k * n + k];
  }
  order_.resize(n);
  std::iota(order_.begin(), order_.end(), 0);
  if (options_.by_activity) {
    std::stable_sort(order_.begin(), order_.end(), [&](int64_t a, int64_t b) {
      return diagonal[static_cast<size_t>(a)] > diagonal[static_cast<size_t>(b)];
    });
  }
  const double damping = options_.damping * std::accumulate(diagonal.begin(), diagonal.end(), 0.0) /
                         static_cast<double>(n);
  if (options_.by_activity) {
    std::vector<double> ordered(n * n);
    for (size_t i = 0; i < n; ++i) {
      const double* row = &hessian[static_cast<size_t>(order_[n - 1 - i]) * n];
      for (size_t j = 0; j < n; ++j)
        ordered[i * n + j] = row[static_cast<size_t>(order_[n - 1 - j])];
    }
    hessian = std::move(ordered);
  } else {
    std::reverse(hessian.begin(), hessian.end());
  }
  for (size_t i = 0; i < n; ++i)
    hessian[i * n + i] = diagonal[static_cast<size_t>(order_[n - 1 - i])] + damping;
}

// The inputs [begin, end) of the order.
void GptqSolver::solve_block(int64_t begin, int64_t end, const Rounding& rounding, Row& row) const {
  const int64_t step = rounding.group == 0 ? inputs_ : rounding.group;
  float* left = row.left.data();
  for (int64_t i = begin; i < end; ++i) {
    const int64_t k = order_[static_cast<size_t>(i)];
    const int64_t g = k / step;
    if (!options_.by_activity && k % step == 0) {  // its scale from what the group is now
      round_row(left + k, std::min(step, inputs_ - k), rounding, row.codes + k, row.scales + g,
                rounding.has_min ? row.mins + g : nullptr);
    }
    const float min = rounding.has_min ? row.mins[g] : 0;
    row.codes[k] = nearest_code(left[i], rounding, row.scales[g], min);
    const float value = row.scales[g] * static_cast<float>(row.codes[k]) + min;
    const float* u = &inverse_[static_cast<size_t>(i * inputs_)];
    const float error = (left[i] - value) / u[i];
    subtract_scaled(left + i + 1, u + i + 1, error, end - (i + 1));
    row.errors[static_cast<size_t>(i - begin)] = error;
  }
}

void GptqSolver::solve(const float* w, int64_t rows, const Rounding& rounding, int8_t* codes,
                       float* scales, float* mins) const {
  if (rounding.type == CodeType::kFp8)
    fail(Code::kInvalidArgument, "GPTQ makes int8 or int4 codes, not fp8");
  const int64_t n = inputs_;
  const int64_t groups = rounding.group == 0 ? 1 : (n + rounding.group - 1) / rounding.group;
  std::vector<Row> all;
  for (int64_t r = 0; r < rows; ++r) {
    Row row{codes + r * n, scales + r * groups, rounding.has_min ? mins + r * groups : nullptr,
            std::vector<float>(static_cast<size_t>(n)),
            std::vector<float>(static_cast<size_t>(kBlock))};
    std::vector<float> start(w + r * n, w + (r + 1) * n);
    for (size_t k = 0; k < start.size(); ++k) start[k] = dead_[k] != 0 ? 0 : start[k];
    if (options_.by_activity) round_row(start.data(), n, rounding, row.codes, row.scales, row.mins);
    for (size_t i = 0; i < start.size(); ++i) row.left[i] = start[static_cast<size_t>(order_[i])];
    all.push_back(std::move(row));
  }
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, n);
    for (Row& row : all) solve_block(begin, end, rounding, row);
    for (int64_t j = end; j < n; j += kTile) {
      const int64_t count = std::min(kTile, n - j);
      for (Row& row : all) {
        for (int64_t i = begin; i < end; ++i)
          subtract_scaled(&row.left[static_cast<size_t>(j)],
                          &inverse_[static_cast<size_t>(i * n + j)],
                          row.errors[static_cast<size_t>(i - begin)], count);
      }
    }
  }
}

double hessian_error(std::span<const double> hessian, std::span<const float> error) {
  const size_t n = error.size();
  ERNE_CHECK(hessian.size() == n * n);
  double total = 0;
  for (size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (size_t j = 0; j < n; ++j) sum += hessian[i * n + j] * error[j];
    total += sum * error[i];
  }
  return total;
}

}  // namespace erne
