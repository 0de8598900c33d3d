#include "model/verify.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/logit_row.h"
#include "model/sequence_runner.h"

namespace erne {
namespace {

constexpr double kBf16ErrorFactor = 1.2;  // of the reference's own bf16 error (spec text.md 8)
constexpr double kBf16DefaultBound =
    0.005;                              // of the largest |logit|: 1.2 x 0.0176 / 4.2 measured there
constexpr double kBf16GapBound = 0.05;  // of the largest |logit|

// One sequence on its way through the model, and what has been measured of it.
struct Track {
  const GoldenSequence* golden = nullptr;
  std::vector<int32_t> generated;
  int64_t done = 0;  // prompt tokens processed
  double largest_seen = 0;
  bool diverged = false;
  SequenceReport report;

  int64_t prompt_tokens() const { return static_cast<int64_t>(golden->ids.size()); }
  bool finished() const {
    return done == prompt_tokens() && generated.size() == golden->greedy.size();
  }
};

void compare_row(Track& track, int64_t position, std::span<const float> row) {
  const auto vocab = static_cast<int64_t>(row.size());
  const std::span<const float> golden(track.golden->logits.data() + position * vocab, row.size());
  SequenceReport& r = track.report;
  const double ours_lse = log_sum_exp(row);
  const double golden_lse = log_sum_exp(golden);
  double sum = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const double error = std::abs(static_cast<double>(row[i]) - golden[i]);
    // A NaN must not hide behind a comparison.
    r.max_error = std::isnan(error) ? INFINITY : std::max(r.max_error, error);
    r.max_logit = std::max(r.max_logit, std::abs(static_cast<double>(golden[i])));
    sum += error;
    const double golden_logprob = golden[i] - golden_lse;
    r.kl += std::exp(golden_logprob) * (golden_logprob - (row[i] - ours_lse));
  }
  r.mean_error += sum / static_cast<double>(vocab);
  r.top1 += argmax(row) == argmax(golden) ? 1 : 0;
}

void take_greedy(Track& track, std::span<const float> row) {
  const std::vector<int32_t>& want = track.golden->greedy;
  const size_t at = track.generated.size();
  if (at >= want.size()) return;
  for (const float v : row)
    track.largest_seen = std::max(track.largest_seen, std::abs(static_cast<double>(v)));
  const int32_t token = argmax(row);
  if (!track.diverged && token == want[at]) {
    ++track.report.greedy_equal;
  } else if (!track.diverged) {
    track.diverged = true;
    track.report.divergence_gap =
        static_cast<double>(row[static_cast<size_t>(token)]) - row[static_cast<size_t>(want[at])];
  }
  track.generated.push_back(
      want[at]);  // follow the golden, so that every later step has the golden's context
}

// Of one sequence: the tokens that a step brings, and the first of its rows of logits.
struct Part {
  Track* track;
  int64_t count;
  int64_t first_row;
};

class Run {
 public:
  Run(const TextModel& model, Device& device, const VerifyOptions& options)
      : chunk_(options.chunk), runner_(model, device, options.block_tokens) {}

  void group(std::span<Track*> tracks) {
    std::vector<int64_t> capacities;
    int64_t step_tokens = 0;
    for (const Track* t : tracks) {
      capacities.push_back(t->prompt_tokens() + static_cast<int64_t>(t->golden->greedy.size()));
      step_tokens += static_cast<int64_t>(next_ids(*t).size());
    }
    runner_.begin(capacities, step_tokens, step_tokens);
    while (std::any_of(tracks.begin(), tracks.end(), [](const Track* t) { return !t->finished(); }))
      step(tracks);
  }

 private:
  // The next chunk of the prompt, then the last token generated.
  std::span<const int32_t> next_ids(const Track& t) const {
    const int64_t left = t.prompt_tokens() - t.done;
    if (left == 0) return std::span(t.generated).last(1);
    return std::span(t.golden->ids)
        .subspan(static_cast<size_t>(t.done),
                 static_cast<size_t>(chunk_ > 0 ? std::min(chunk_, left) : left));
  }

  void step(std::span<Track*> tracks) {
    std::vector<SequenceRunner::Piece> pieces;
    std::vector<Part> parts;
    int64_t rows = 0;
    for (size_t s = 0; s < tracks.size(); ++s) {
      if (tracks[s]->finished()) continue;
      const std::span<const int32_t> ids = next_ids(*tracks[s]);
      const auto count = static_cast<int64_t>(ids.size());
      pieces.push_back({s, ids, count});
      parts.push_back({tracks[s], count, rows});
      rows += count;
    }
    const Tensor logits = runner_.step(pieces, [&](int layer, const Tensor& hidden) {
      for (const Part& part : parts) compare_hidden(part, layer, hidden);
    });
    for (const Part& part : parts) read(part, logits);
  }

  static void compare_hidden(const Part& part, int layer, const Tensor& hidden) {
    Track& t = *part.track;
    const auto found = t.golden->hidden.find(layer);
    if (found == t.golden->hidden.end() || t.done >= t.prompt_tokens()) return;
    const int64_t width = hidden.dim(1);
    double error = 0;
    double largest = 0;
    for (const float v : found->second)
      largest = std::max(largest, std::abs(static_cast<double>(v)));
    for (int64_t row = 0; row < part.count; ++row) {
      const float* ours = hidden.ptr<float>() + (part.first_row + row) * width;
      const float* golden = found->second.data() + (t.done + row) * width;
      for (int64_t i = 0; i < width; ++i) {
        const double one = std::abs(static_cast<double>(ours[i]) - golden[i]);
        error = std::isnan(one) ? INFINITY : std::max(error, one);
      }
    }
    t.report.hidden_error = std::max(t.report.hidden_error, error / largest);
  }

  static void read(const Part& part, const Tensor& logits) {
    Track& t = *part.track;
    const auto vocab = static_cast<size_t>(logits.dim(1));
    const auto row = [&](int64_t r) {
      return std::span(logits.ptr<float>() + static_cast<size_t>(part.first_row + r) * vocab,
                       vocab);
    };
    for (int64_t i = 0; i < part.count; ++i) {
      const auto logit_row = row(i);
      t.report.finite &=
          std::all_of(logit_row.begin(), logit_row.end(), [](float v) { return std::isfinite(v); });
    }
    if (t.done < t.prompt_tokens()) {
      if (!t.golden->logits.empty()) {
        for (int64_t i = 0; i < part.count; ++i) compare_row(t, t.done + i, row(i));
      }
      t.done += part.count;
      if (t.done < t.prompt_tokens()) return;
    }
    take_greedy(t, row(part.count - 1));
  }

  int64_t chunk_;
  SequenceRunner runner_;
};

SequenceReport finish(Track& t) {
  SequenceReport& r = t.report;
  r.name = t.golden->name;
  r.tokens = t.prompt_tokens();
  r.has_logits = !t.golden->logits.empty();
  r.greedy_tokens = static_cast<int64_t>(t.golden->greedy.size());
  const auto tokens = static_cast<double>(r.tokens);
  r.mean_error /= tokens;
  r.kl /= tokens;
  r.top1 /= tokens;
  if (!r.has_logits) r.max_logit = t.largest_seen;
  return r;
}

// What holds at every precision. A NaN also hides from the largest logit and from argmax, so it is
// looked for by itself.
void judge_finite(const SequenceReport& r, std::vector<std::string>& broken) {
  if (r.finite) return;
  broken.push_back(fmt::format("sequence {}: a logit is infinite or not a number", r.name));
}

void judge_f32(const SequenceReport& r, double bound, std::vector<std::string>& broken) {
  if (r.has_logits && !(r.max_error <= bound * r.max_logit)) {
    broken.push_back(fmt::format("sequence {}: largest error {:.3g} exceeds {:.0e} x {:.4g}",
                                 r.name, r.max_error, bound, r.max_logit));
  }
  if (!(r.hidden_error <= bound)) {
    broken.push_back(fmt::format(
        "sequence {}: largest error of a hidden state is {:.3g} of its largest value, above {:.0e}",
        r.name, r.hidden_error, bound));
  }
  if (r.greedy_equal != r.greedy_tokens) {
    broken.push_back(fmt::format("sequence {}: greedy ids differ after {} of {} tokens", r.name,
                                 r.greedy_equal, r.greedy_tokens));
  }
}

void judge_bf16(const VerifyReport& report, const Golden& golden,
                std::vector<std::string>& broken) {
  double error = 0;
  double tokens = 0;
  double max_logit = 0;
  for (const SequenceReport& r : report.sequences) {
    max_logit = std::max(max_logit, r.max_logit);
    if (r.greedy_equal != r.greedy_tokens && !(r.divergence_gap <= kBf16GapBound * r.max_logit)) {
      broken.push_back(
          fmt::format("sequence {}: greedy ids differ after {} tokens where the gap is {:.3g}",
                      r.name, r.greedy_equal, r.divergence_gap));
    }
    if (!r.has_logits) continue;
    error += r.mean_error * static_cast<double>(r.tokens);
    tokens += static_cast<double>(r.tokens);
  }
  if (tokens == 0) return;
  const double bound = golden.reference_bf16_error ? kBf16ErrorFactor * *golden.reference_bf16_error
                                                   : kBf16DefaultBound * max_logit;
  if (!(error / tokens <= bound)) {
    broken.push_back(fmt::format("mean error {:.4g} exceeds {:.4g}", error / tokens, bound));
  }
}

}  // namespace

VerifyReport verify(const TextModel& model, Device& device, const Golden& golden,
                    const VerifyOptions& options) {
  if (options.batch < 1)
    fail(Code::kInvalidArgument, "batch must be at least 1, got {}", options.batch);
  if (options.chunk < 0)
    fail(Code::kInvalidArgument, "chunk must not be negative, got {}", options.chunk);
  std::vector<Track> tracks(golden.sequences.size());
  std::vector<Track*> order;
  for (size_t i = 0; i < tracks.size(); ++i) {
    tracks[i].golden = &golden.sequences[i];
    order.push_back(&tracks[i]);
  }
  Run run(model, device, options);
  const auto group = static_cast<size_t>(options.batch);
  for (size_t i = 0; i < order.size(); i += group) {
    run.group(std::span(order).subspan(i, std::min(group, order.size() - i)));
  }
  VerifyReport report;
  for (Track& t : tracks) report.sequences.push_back(finish(t));
  for (const SequenceReport& r : report.sequences) judge_finite(r, report.broken);
  if (model.dtype() == DType::kF32) {
    for (const SequenceReport& r : report.sequences) judge_f32(r, options.f32_bound, report.broken);
  } else {
    judge_bf16(report, golden, report.broken);
  }
  return report;
}

}  // namespace erne
