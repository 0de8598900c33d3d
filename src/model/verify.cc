#include "model/verify.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace erne {
namespace {

constexpr double kF32Bound = 5e-6;        // of the largest |logit| (goldens/README.md)
constexpr double kBf16ErrorFactor = 1.2;  // of the reference's own bf16 error (spec text.md 8)
constexpr double kBf16DefaultBound =
    0.005;                              // of the largest |logit|: 1.2 x 0.0176 / 4.2 measured there
constexpr double kBf16GapBound = 0.05;  // of the largest |logit|

double log_sum_exp(std::span<const float> row) {
  const double max = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float v : row) sum += std::exp(v - max);
  return max + std::log(sum);
}

int32_t argmax(std::span<const float> row) {
  return static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

// One sequence on its way through the model, and what has been measured of it.
struct Track {
  const GoldenSequence* golden = nullptr;
  std::vector<int32_t> blocks;
  std::vector<int32_t> generated;
  int64_t done = 0;  // prompt tokens processed
  double largest_seen = 0;
  bool diverged = false;
  SequenceReport report;

  int64_t prompt_tokens() const { return static_cast<int64_t>(golden->ids.size()); }
  int64_t context() const {
    return done + static_cast<int64_t>(generated.size()) - (generated.empty() ? 0 : 1);
  }
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

class Run {
 public:
  Run(const TextModel& model, Device& device, const VerifyOptions& options)
      : model_(model), device_(device), options_(options) {}

  void group(std::span<Track*> tracks) {
    place(tracks);
    while (std::any_of(tracks.begin(), tracks.end(), [](const Track* t) { return !t->finished(); }))
      step(tracks);
  }

 private:
  // Gives every track its blocks, from a pool in a scrambled order.
  void place(std::span<Track*> tracks) {
    const int64_t block = options_.block_tokens;
    int32_t total = 0;
    max_blocks_ = 1;
    int64_t step_tokens = 0;
    for (Track* t : tracks) {
      const int64_t tokens = t->prompt_tokens() + static_cast<int64_t>(t->golden->greedy.size());
      t->blocks.resize(static_cast<size_t>((tokens + block - 1) / block));
      total += static_cast<int32_t>(t->blocks.size());
      max_blocks_ = std::max(max_blocks_, static_cast<int32_t>(t->blocks.size()));
      step_tokens +=
          options_.chunk > 0 ? std::min(options_.chunk, t->prompt_tokens()) : t->prompt_tokens();
    }
    std::vector<int32_t> pool(static_cast<size_t>(total));
    std::iota(pool.begin(), pool.end(), 0);
    uint64_t state = 1;
    for (size_t i = pool.size(); i > 1; --i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      std::swap(pool[i - 1], pool[(state >> 33) % i]);
    }
    for (Track* t : tracks) {
      for (int32_t& id : t->blocks) {
        id = pool.back();
        pool.pop_back();
      }
    }
    cache_ = device_.make_kv_cache(model_.kv_spec(options_.block_tokens), total);
    arena_ = Arena(device_.allocate(model_.arena_bytes(step_tokens, step_tokens)));
  }

  void step(std::span<Track*> tracks) {
    ids_.clear();
    positions_.clear();
    context_.clear();
    table_.clear();
    start_ = {0};
    std::vector<Track*> running;
    for (Track* t : tracks) {
      if (t->finished()) continue;
      add(*t);
      running.push_back(t);
    }
    std::vector<int32_t> rows(ids_.size());
    std::iota(rows.begin(), rows.end(), 0);
    const Batch batch{ids_, positions_, start_, context_, table_, max_blocks_, rows};
    arena_.reset();
    Ctx ctx{device_, arena_};
    const Tensor logits = model_.forward(ctx, batch, cache_, [&](int layer, const Tensor& hidden) {
      for (size_t s = 0; s < running.size(); ++s) compare_hidden(*running[s], s, layer, hidden);
    });
    for (size_t s = 0; s < running.size(); ++s) read(*running[s], s, logits);
  }

  void add(Track& t) {
    const auto prompt = t.prompt_tokens();
    if (t.done < prompt) {
      const int64_t count =
          options_.chunk > 0 ? std::min(options_.chunk, prompt - t.done) : prompt - t.done;
      for (int64_t i = t.done; i < t.done + count; ++i)
        push(t.golden->ids[static_cast<size_t>(i)], i);
      context_.push_back(static_cast<int32_t>(t.done + count));
    } else {
      push(t.generated.back(), t.context());
      context_.push_back(static_cast<int32_t>(t.context() + 1));
    }
    start_.push_back(static_cast<int32_t>(ids_.size()));
    table_.insert(table_.end(), t.blocks.begin(), t.blocks.end());
    table_.resize(static_cast<size_t>(max_blocks_) * context_.size(), 0);
  }

  void push(int32_t id, int64_t position) {
    ids_.push_back(id);
    positions_.push_back(static_cast<int32_t>(position));
  }

  void compare_hidden(Track& t, size_t s, int layer, const Tensor& hidden) {
    const auto found = t.golden->hidden.find(layer);
    if (found == t.golden->hidden.end() || t.done >= t.prompt_tokens()) return;
    const int64_t width = hidden.dim(1);
    double error = 0;
    double largest = 0;
    for (const float v : found->second)
      largest = std::max(largest, std::abs(static_cast<double>(v)));
    for (int64_t row = start_[s]; row < start_[s + 1]; ++row) {
      const float* ours = hidden.ptr<float>() + row * width;
      const float* golden = found->second.data() + (t.done + row - start_[s]) * width;
      for (int64_t i = 0; i < width; ++i) {
        const double one = std::abs(static_cast<double>(ours[i]) - golden[i]);
        error = std::isnan(one) ? INFINITY : std::max(error, one);
      }
    }
    t.report.hidden_error = std::max(t.report.hidden_error, error / largest);
  }

  void read(Track& t, size_t s, const Tensor& logits) {
    const auto vocab = static_cast<size_t>(logits.dim(1));
    const auto row = [&](int64_t r) {
      return std::span(logits.ptr<float>() + static_cast<size_t>(r) * vocab, vocab);
    };
    const int64_t count = start_[s + 1] - start_[s];
    for (int64_t i = 0; i < count; ++i) {
      const auto logit_row = row(start_[s] + i);
      t.report.finite &=
          std::all_of(logit_row.begin(), logit_row.end(), [](float v) { return std::isfinite(v); });
    }
    if (t.done < t.prompt_tokens()) {
      if (!t.golden->logits.empty()) {
        for (int64_t i = 0; i < count; ++i) compare_row(t, t.done + i, row(start_[s] + i));
      }
      t.done += count;
      if (t.done < t.prompt_tokens()) return;
    }
    take_greedy(t, row(start_[s + 1] - 1));
  }

  const TextModel& model_;
  Device& device_;
  const VerifyOptions& options_;
  KvCache cache_;
  Arena arena_;
  int32_t max_blocks_ = 1;
  std::vector<int32_t> ids_, positions_, start_, context_, table_;
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

void judge_f32(const SequenceReport& r, std::vector<std::string>& broken) {
  if (r.has_logits && !(r.max_error <= kF32Bound * r.max_logit)) {
    broken.push_back(fmt::format("sequence {}: largest error {:.3g} exceeds {:.0e} x {:.4g}",
                                 r.name, r.max_error, kF32Bound, r.max_logit));
  }
  if (!(r.hidden_error <= kF32Bound)) {
    broken.push_back(fmt::format(
        "sequence {}: largest error of a hidden state is {:.3g} of its largest value, above {:.0e}",
        r.name, r.hidden_error, kF32Bound));
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
    for (const SequenceReport& r : report.sequences) judge_f32(r, report.broken);
  } else {
    judge_bf16(report, golden, report.broken);
  }
  return report;
}

}  // namespace erne
