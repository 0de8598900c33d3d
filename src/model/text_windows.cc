#include "model/text_windows.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace erne {
namespace {

std::vector<Window> slide(int64_t num_tokens, const WindowOptions& o) {
  if (o.window < 2) fail(Code::kInvalidArgument, "window must be at least 2, got {}", o.window);
  if (o.stride < 1 || o.stride >= o.window) {
    fail(Code::kInvalidArgument,
         "stride must be 1 to {} (a token less than the window of {}), got {}", o.window - 1,
         o.window, o.stride);
  }
  if (num_tokens < 2) {
    fail(Code::kInvalidArgument, "the text has {} tokens; predicting one takes at least 2",
         num_tokens);
  }
  std::vector<Window> windows;
  int64_t scored = 1;  // nothing stands before the first token
  for (int64_t begin = 0; scored < num_tokens; begin += o.stride) {
    const int64_t end = std::min(num_tokens, begin + o.window);
    windows.push_back({begin, end, scored});
    scored = end;
  }
  return windows;
}

std::vector<Window> score_second_halves(int64_t num_tokens, const WindowOptions& o) {
  if (o.window < 4) fail(Code::kInvalidArgument, "window must be at least 4, got {}", o.window);
  if (num_tokens < o.window) {
    fail(Code::kInvalidArgument,
         "the text has {} tokens; this method needs a whole window of {}: take a longer text or a "
         "smaller window",
         num_tokens, o.window);
  }
  std::vector<Window> windows;
  for (int64_t begin = 0; begin + o.window <= num_tokens; begin += o.window)
    windows.push_back({begin, begin + o.window, begin + o.window / 2 + 1});
  return windows;
}

}  // namespace

std::vector<Window> cut_windows(int64_t num_tokens, const WindowOptions& options) {
  return options.method == WindowMethod::kSliding ? slide(num_tokens, options)
                                                  : score_second_halves(num_tokens, options);
}

int64_t TextWindows::num_scored() const {
  return std::accumulate(windows.begin(), windows.end(), int64_t{0},
                         [](int64_t sum, const Window& w) { return sum + w.num_scored(); });
}

int64_t TextWindows::num_inputs() const {
  return std::accumulate(windows.begin(), windows.end(), int64_t{0},
                         [](int64_t sum, const Window& w) { return sum + w.num_inputs(); });
}

}  // namespace erne
