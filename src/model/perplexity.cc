#include "model/perplexity.h"

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/thread_pool.h"
#include "model/logit_row.h"

namespace erne {

Estimate estimate(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  if (values.empty()) return {};
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  if (values.size() == 1) return {mean, 0};
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return {mean, std::sqrt(squares / n / (n - 1))};
}

double PerplexityReport::perplexity() const { return std::exp(nll.mean); }
double PerplexityReport::perplexity_error() const { return perplexity() * nll.standard_error; }

PerplexityReport measure_perplexity(const TextModel& model, Device& device, const TextWindows& text,
                                    const WindowRunOptions& options) {
  PerplexityReport report;
  report.token_nll.resize(static_cast<size_t>(text.num_scored()));
  ThreadPool pool(options.num_threads);
  const TextModel* const models[] = {&model};
  const auto see = [&](std::span<const ScoredRow> rows, std::span<const Tensor> logits) {
    const auto vocab = static_cast<size_t>(logits[0].dim(1));
    const auto score = [&](int64_t begin, int64_t end, int) {
      for (auto r = static_cast<size_t>(begin); r < static_cast<size_t>(end); ++r) {
        const std::span row(logits[0].ptr<float>() + r * vocab, vocab);
        report.token_nll[static_cast<size_t>(rows[r].place)] =
            log_sum_exp(row) - row[static_cast<size_t>(rows[r].target)];
      }
    };
    pool.parallel_for(static_cast<int64_t>(rows.size()), 1, score);
    for (const ScoredRow& row : rows) {
      if (std::isfinite(report.token_nll[static_cast<size_t>(row.place)])) continue;
      fail(Code::kCorrupt,
           "a logit is infinite or not a number where scored token {} (id {}) is predicted",
           row.place, row.target);
    }
  };
  run_windows(models, device, text, options, see);
  report.nll = estimate(report.token_nll);
  return report;
}

}  // namespace erne
