#include "model/window_run.h"

#include <algorithm>
#include <deque>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "model/sequence_runner.h"

namespace erne {
namespace {

constexpr int kMaxBatch = 1024;

void check_ids(const TextWindows& text, int64_t vocab_size) {
  const auto outside = [&](int32_t id) { return id < 0 || id >= vocab_size; };
  for (size_t i = 0; i < text.ids.size(); ++i) {
    if (!outside(text.ids[i])) continue;
    fail(Code::kInvalidArgument,
         "token {} of the text has id {}, outside the model's vocabulary of {}: do tokenizer and "
         "weights belong together?",
         i, text.ids[i], vocab_size);
  }
  if (text.window_start && outside(*text.window_start)) {
    fail(Code::kInvalidArgument, "the start of a window has id {}, outside the vocabulary of {}",
         *text.window_start, vocab_size);
  }
}

void check(std::span<const TextModel* const> models, const TextWindows& text,
           const WindowRunOptions& o) {
  if (o.chunk < 1) fail(Code::kInvalidArgument, "chunk must be at least 1, got {}", o.chunk);
  if (o.batch < 1 || o.batch > kMaxBatch)
    fail(Code::kInvalidArgument, "batch must be 1 to {}, got {}", kMaxBatch, o.batch);
  const int64_t vocab_size = models.front()->config().vocab_size;
  for (const TextModel* model : models) {
    const TextConfig& config = model->config();
    if (config.vocab_size != vocab_size) {
      fail(Code::kInvalidArgument,
           "the models have vocabularies of {} and {} tokens: their predictions cannot be compared",
           vocab_size, config.vocab_size);
    }
    for (const Window& w : text.windows) {
      if (w.end - w.begin <= config.max_position_embeddings) continue;
      fail(Code::kInvalidArgument,
           "a window of {} tokens is longer than the model's context of {} "
           "(max_position_embeddings)",
           w.end - w.begin, config.max_position_embeddings);
    }
  }
  check_ids(text, vocab_size);
}

int64_t longest_window(const TextWindows& text) {
  int64_t longest = 1;
  for (const Window& w : text.windows) longest = std::max(longest, w.num_inputs());
  return longest;
}

// Windows side by side are at most as many as there are.
int64_t width(const TextWindows& text, const WindowRunOptions& o) {
  return std::min<int64_t>(o.batch, static_cast<int64_t>(text.windows.size()));
}

int64_t step_tokens(const TextWindows& text, const WindowRunOptions& o) {
  return width(text, o) * std::min(o.chunk, longest_window(text));
}

// One window on its way.
struct Track {
  std::vector<int32_t> inputs;
  Window window;
  int64_t first_place = 0;  // of its scored tokens
  int64_t done = 0;         // inputs processed
};

class Run {
 public:
  Run(std::span<const TextModel* const> models, Device& device, const TextWindows& text,
      const WindowRunOptions& options, const SeeRows& see)
      : text_(text),
        options_(options),
        see_(see),
        logits_(models.size()),
        progress_("scoring", static_cast<uint64_t>(text.num_inputs()), ProgressUnit::kItems,
                  options.show_progress) {
    for (const TextModel* model : models)
      runners_.emplace_back(*model, device, options.block_tokens);
  }

  void all() {
    const auto group_size = static_cast<size_t>(width(text_, options_));
    const std::span<const Window> windows(text_.windows);
    int64_t place = 0;
    for (size_t at = 0; at < windows.size(); at += group_size) {
      std::vector<Track> tracks;
      for (const Window& w : windows.subspan(at, std::min(group_size, windows.size() - at))) {
        tracks.push_back(begin(w, place));
        place += w.num_scored();
      }
      group(tracks);
    }
  }

 private:
  Track begin(const Window& w, int64_t place) const {
    Track t{{text_.ids.begin() + w.begin, text_.ids.begin() + w.end - 1}, w, place, 0};
    if (text_.window_start) t.inputs.front() = *text_.window_start;
    return t;
  }

  void group(std::span<Track> tracks) {
    std::vector<int64_t> capacities;
    for (const Track& t : tracks) capacities.push_back(t.window.num_inputs());
    const int64_t most = step_tokens(text_, options_);
    for (SequenceRunner& runner : runners_) runner.begin(capacities, most, most);
    while (step(tracks)) {
    }
  }

  bool step(std::span<Track> tracks) {
    std::vector<SequenceRunner::Piece> pieces;
    rows_.clear();
    uint64_t tokens = 0;
    for (size_t s = 0; s < tracks.size(); ++s) {
      Track& t = tracks[s];
      const int64_t left = t.window.num_inputs() - t.done;
      if (left == 0) continue;
      const int64_t count = std::min(options_.chunk, left);
      const auto ids =
          std::span(t.inputs).subspan(static_cast<size_t>(t.done), static_cast<size_t>(count));
      t.done += count;
      tokens += static_cast<uint64_t>(count);
      pieces.push_back({s, ids, add_rows(t, count)});
    }
    if (pieces.empty()) return false;
    for (size_t m = 0; m < logits_.size(); ++m) logits_[m] = runners_[m].step(pieces);
    if (!rows_.empty()) see_(rows_, logits_);
    progress_.add(tokens);
    return true;
  }

  // The scored tokens that the last `count` inputs done predict; returns how many.
  int64_t add_rows(const Track& t, int64_t count) {
    const int64_t end = t.window.begin + t.done + 1;  // input i predicts token i + 1
    const int64_t first = std::max(t.window.first_scored, end - count);
    for (int64_t token = first; token < end; ++token) {
      rows_.push_back(
          {t.first_place + token - t.window.first_scored, text_.ids[static_cast<size_t>(token)]});
    }
    return std::max<int64_t>(0, end - first);
  }

  const TextWindows& text_;
  const WindowRunOptions& options_;
  const SeeRows& see_;
  std::deque<SequenceRunner> runners_;
  std::vector<Tensor> logits_;
  std::vector<ScoredRow> rows_;
  Progress progress_;
};

}  // namespace

void run_windows(std::span<const TextModel* const> models, Device& device, const TextWindows& text,
                 const WindowRunOptions& options, const SeeRows& see) {
  check(models, text, options);
  Run(models, device, text, options, see).all();
}

uint64_t window_run_bytes(const TextModel& model, Device& device, const TextWindows& text,
                          const WindowRunOptions& options) {
  const TextModel* const models[] = {&model};
  check(models, text, options);
  const std::vector<int64_t> capacities(static_cast<size_t>(width(text, options)),
                                        longest_window(text));
  const int64_t tokens = step_tokens(text, options);
  return SequenceRunner::bytes(model, device, options.block_tokens, capacities, tokens, tokens);
}

}  // namespace erne
