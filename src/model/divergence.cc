#include "model/divergence.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "model/logit_row.h"

namespace erne {
namespace {

void check_finite(std::span<const ScoredRow> rows, const std::vector<RowDifference>& tokens) {
  for (const ScoredRow& row : rows) {
    if (std::isfinite(tokens[static_cast<size_t>(row.place)].kl)) continue;
    fail(Code::kCorrupt,
         "a logit of one of the models is infinite or not a number where scored token {} (id {}) "
         "is predicted",
         row.place, row.target);
  }
}

template <typename Member>
std::vector<double> column(const std::vector<RowDifference>& tokens, Member member) {
  std::vector<double> values;
  for (const RowDifference& t : tokens) values.push_back(t.*member);
  return values;
}

DivergenceReport summarise(const std::vector<RowDifference>& tokens) {
  DivergenceReport report;
  report.tokens = static_cast<int64_t>(tokens.size());
  std::vector<double> kl = column(tokens, &RowDifference::kl);
  report.kl = estimate(kl);
  report.logit_error = estimate(column(tokens, &RowDifference::logit_error)).mean;
  const std::vector<double> baseline_nll = column(tokens, &RowDifference::baseline_nll);
  std::vector<double> nll = column(tokens, &RowDifference::nll);
  report.baseline_nll = estimate(baseline_nll);
  report.nll = estimate(nll);
  for (size_t i = 0; i < nll.size(); ++i) nll[i] -= baseline_nll[i];
  report.nll_difference = estimate(nll);
  const auto same = std::count_if(tokens.begin(), tokens.end(),
                                  [](const RowDifference& t) { return t.same_top; });
  report.top1 = static_cast<double>(same) / static_cast<double>(tokens.size());
  std::sort(kl.begin(), kl.end());
  report.kl_p99 = kl[(kl.size() * 99 + 99) / 100 - 1];
  report.kl_max = kl.back();
  return report;
}

}  // namespace

DivergenceReport measure_divergence(const TextModel& baseline, const TextModel& model,
                                    Device& device, const TextWindows& text,
                                    const WindowRunOptions& options) {
  std::vector<RowDifference> tokens(static_cast<size_t>(text.num_scored()));
  ThreadPool pool(options.num_threads);
  const TextModel* const models[] = {&baseline, &model};
  const auto see = [&](std::span<const ScoredRow> rows, std::span<const Tensor> logits) {
    const auto vocab = static_cast<size_t>(logits[0].dim(1));
    const auto compare = [&](int64_t begin, int64_t end, int) {
      for (auto r = static_cast<size_t>(begin); r < static_cast<size_t>(end); ++r) {
        tokens[static_cast<size_t>(rows[r].place)] =
            compare_rows({logits[0].ptr<float>() + r * vocab, vocab},
                         {logits[1].ptr<float>() + r * vocab, vocab}, rows[r].target);
      }
    };
    pool.parallel_for(static_cast<int64_t>(rows.size()), 1, compare);
    check_finite(rows, tokens);
  };
  run_windows(models, device, text, options, see);
  ERNE_CHECK(!tokens.empty());
  return summarise(tokens);
}

}  // namespace erne
