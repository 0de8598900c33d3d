#include "quant/awq.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/thread_pool.h"

namespace erne {
namespace {

constexpr int kRatios = 20;

int64_t group_of(const AwqLinear& linear) {
  return linear.rounding.group == 0 ? linear.weights.cols : linear.rounding.group;
}

int64_t tokens_of(const AwqLinear& linear) {
  return static_cast<int64_t>(linear.samples.size()) / linear.weights.cols;
}

// A linear with its samples transposed, [inputs, tokens]: outputs then add up token by token.
struct Problem {
  const AwqLinear& linear;
  std::vector<float> inputs;
};

// What one thread needs for a row.
struct Scratch {
  explicit Scratch(int64_t inputs, int64_t tokens)
      : error(static_cast<size_t>(inputs)),
        scaled(error.size()),
        scales(error.size()),
        mins(error.size()),
        codes(error.size()),
        outputs(static_cast<size_t>(tokens)) {}
  std::vector<float> error, scaled, scales, mins;
  std::vector<int8_t> codes;
  std::vector<float> outputs;
};

// w - dequantised(w s) / s of one row.
void row_error(const AwqLinear& linear, int64_t row, const std::vector<float>& s, Scratch& t) {
  const size_t n = s.size();
  read_row_f32(linear.weights, row, t.error.data());
  for (size_t k = 0; k < n; ++k) t.scaled[k] = t.error[k] * s[k];
  round_row(t.scaled.data(), linear.weights.cols, linear.rounding, t.codes.data(), t.scales.data(),
            t.mins.data());
  const auto group = static_cast<size_t>(group_of(linear));
  for (size_t k = 0; k < n; ++k) {
    const float min = linear.rounding.has_min ? t.mins[k / group] : 0;
    t.error[k] -= (t.scales[k / group] * static_cast<float>(t.codes[k]) + min) / s[k];
  }
}

// Sum over the tokens of (error x)^2.
double squared_outputs(const Problem& problem, Scratch& t) {
  const auto tokens = static_cast<size_t>(tokens_of(problem.linear));
  float* y = t.outputs.data();
  std::fill_n(y, tokens, 0.0F);
  const float* x = problem.inputs.data();
  size_t k = 0;
  for (; k + 4 <= t.error.size(); k += 4, x += 4 * tokens) {
    const float* e = &t.error[k];
    for (size_t i = 0; i < tokens; ++i) {
      y[i] += (e[0] * x[i] + e[1] * x[tokens + i]) +
              (e[2] * x[2 * tokens + i] + e[3] * x[3 * tokens + i]);
    }
  }
  for (; k < t.error.size(); ++k, x += tokens) {
    for (size_t i = 0; i < tokens; ++i) y[i] += t.error[k] * x[i];
  }
  double sum = 0;
  for (size_t i = 0; i < tokens; ++i) sum += double{y[i]} * double{y[i]};
  return sum;
}

double output_error(const std::vector<Problem>& problems, const std::vector<float>& s,
                    ThreadPool& pool, std::vector<Scratch>& scratch) {
  double total = 0;
  for (const Problem& problem : problems) {
    const int64_t rows = problem.linear.weights.rows;
    std::vector<double> errors(static_cast<size_t>(rows));
    pool.parallel_for(rows, 1, [&](int64_t begin, int64_t end, int thread) {
      Scratch& mine = scratch[static_cast<size_t>(thread)];
      for (int64_t row = begin; row < end; ++row) {
        row_error(problem.linear, row, s, mine);
        errors[static_cast<size_t>(row)] = squared_outputs(problem, mine);
      }
    });
    total += problem.linear.weight * std::accumulate(errors.begin(), errors.end(), 0.0);
  }
  return total;
}

std::vector<float> mean_inputs(const std::vector<Problem>& problems) {
  std::vector<double> sum(static_cast<size_t>(problems.front().linear.weights.cols));
  double count = 0;
  for (const Problem& p : problems) {
    const std::span<const float> samples = p.linear.samples;
    for (size_t i = 0; i < samples.size(); ++i)
      sum[i % sum.size()] += p.linear.weight * std::fabs(double{samples[i]});
    count += p.linear.weight * static_cast<double>(tokens_of(p.linear));
  }
  std::vector<float> mean;
  for (const double x : sum) mean.push_back(static_cast<float>(x / count));
  return mean;
}

std::vector<float> mean_weights(const std::vector<Problem>& problems) {
  std::vector<double> sum(static_cast<size_t>(problems.front().linear.weights.cols));
  std::vector<float> w(sum.size());
  double rows = 0;
  for (const Problem& p : problems) {
    const auto group = static_cast<size_t>(group_of(p.linear));
    rows += static_cast<double>(p.linear.weights.rows);
    for (int64_t row = 0; row < p.linear.weights.rows; ++row) {
      read_row_f32(p.linear.weights, row, w.data());
      for (size_t k = 0; k < w.size(); k += group) {
        const size_t end = std::min(k + group, w.size());
        float amax = 1e-8F;
        for (size_t i = k; i < end; ++i) amax = std::max(amax, std::fabs(w[i]));
        for (size_t i = k; i < end; ++i) sum[i] += double{std::fabs(w[i]) / amax};
      }
    }
  }
  std::vector<float> mean;
  for (const double x : sum) mean.push_back(static_cast<float>(x / rows));
  return mean;
}

// Scales within [1e-4, 1e4] of each other's geometric middle: a silent input must not divide by 0.
void normalise(std::vector<float>& s) {
  for (float& x : s) x = std::clamp(x, 1e-4F, 1e4F);
  const auto [low, high] = std::minmax_element(s.begin(), s.end());
  const float middle = std::sqrt(*low * *high);
  for (float& x : s) x /= middle;
}

// The linears that have samples; checked.
std::vector<Problem> problems_of(std::span<const AwqLinear> linears) {
  std::vector<Problem> problems;
  for (const AwqLinear& linear : linears) {
    const int64_t inputs = linear.weights.cols;
    if (inputs < 1 || inputs != linears.front().weights.cols || linear.weights.rows < 1 ||
        static_cast<int64_t>(linear.samples.size()) % inputs != 0) {
      fail(Code::kInvalidArgument, "{} sample values for {} inputs", linear.samples.size(), inputs);
    }
    if (linear.samples.empty()) continue;
    const auto tokens = static_cast<size_t>(tokens_of(linear));
    std::vector<float> transposed(linear.samples.size());
    for (size_t i = 0; i < linear.samples.size(); ++i) {
      const auto n = static_cast<size_t>(inputs);
      transposed[i % n * tokens + i / n] = linear.samples[i];
    }
    problems.push_back({linear, std::move(transposed)});
  }
  if (problems.empty()) fail(Code::kInvalidArgument, "no linear has samples of its inputs");
  return problems;
}

}  // namespace

AwqScales awq_scales(std::span<const AwqLinear> linears, ThreadPool& pool) {
  const std::vector<Problem> problems = problems_of(linears);
  int64_t tokens = 0;
  for (const Problem& p : problems) tokens = std::max(tokens, tokens_of(p.linear));
  std::vector<Scratch> scratch(static_cast<size_t>(pool.num_threads()),
                               Scratch(problems.front().linear.weights.cols, tokens));
  const std::vector<float> x = mean_inputs(problems);
  const std::vector<float> w = mean_weights(problems);
  AwqScales best{std::vector<float>(x.size(), 1.0F), 0, 0};
  best.plain = best.error = output_error(problems, best.s, pool, scratch);
  for (int i = 0; i < kRatios; ++i) {
    const float r = static_cast<float>(i) / kRatios;
    for (const bool by_weight : {true, false}) {
      if (i == 0 && !by_weight) continue;  // s = 1 again
      std::vector<float> s(x.size());
      for (size_t k = 0; k < s.size(); ++k)
        s[k] = std::pow(x[k], r) / (by_weight ? std::pow(w[k], 1 - r) + 1e-4F : 1.0F);
      normalise(s);
      const double error = output_error(problems, s, pool, scratch);
      if (error < best.error) {
        best.error = error;
        best.s = std::move(s);
      }
    }
  }
  return best;
}

}  // namespace erne
