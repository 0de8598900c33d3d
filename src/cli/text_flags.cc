#include "cli/text_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/utf8.h"
#include "engine/memory.h"
#include "token/tokenizer.h"

namespace erne::cli {
namespace {

constexpr int64_t kUsualWindow = 2048;
constexpr int64_t kLlamaCppWindow = 512;  // llama-perplexity's own default

}  // namespace

// A wrong file scores as badly as a wrong model: say so at once.
void check_text(std::string_view text, std::string_view what) {
  if (text.empty()) fail(Code::kInvalidArgument, "{}: the text is empty", what);
  for (size_t at = 0; at < text.size();) {
    const utf8::Decoded d = utf8::decode(text, at);
    if (!d.valid || text[at] == '\0') {
      fail(Code::kInvalidArgument, "{}: byte {} is {}; a text in UTF-8 is needed", what, at,
           d.valid ? "zero" : "not UTF-8");
    }
    at += static_cast<size_t>(d.size);
  }
}

void add_text_flags(CLI::App& app, TextFlags& flags) {
  const char* group = "Text";
  app.add_option("--text", flags.text, "File with the text to score, UTF-8")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--window", flags.window,
                 "Tokens of a window (2048, or the model's context if that is shorter)")
      ->group(group);
  app.add_option("--stride", flags.stride,
                 "Tokens from one window's beginning to the next's (half a window)")
      ->group(group);
  app.add_option("--max-tokens", flags.max_tokens, "Score only the text's first so many tokens")
      ->group(group);
}

std::vector<int32_t> read_text_ids(const TextFlags& flags, const Tokenizer& tokenizer) {
  if (flags.max_tokens && *flags.max_tokens < 2)
    fail(Code::kInvalidArgument, "--max-tokens must be at least 2, got {}", *flags.max_tokens);
  const std::string text = read_file(flags.text);
  check_text(text, "--text " + flags.text);
  std::vector<int32_t> ids = tokenizer.encode_plain(text);
  if (tokenizer.add_bos() && tokenizer.bos_id()) ids.insert(ids.begin(), *tokenizer.bos_id());
  if (flags.max_tokens && std::cmp_less(*flags.max_tokens, ids.size()))
    ids.resize(static_cast<size_t>(*flags.max_tokens));
  return ids;
}

WindowOptions to_window_options(const TextFlags& flags, WindowMethod method, int64_t context) {
  const bool sliding = method == WindowMethod::kSliding;
  const int64_t least = sliding ? 2 : 4;
  WindowOptions options;
  options.method = method;
  options.window =
      flags.window.value_or(std::min(context, sliding ? kUsualWindow : kLlamaCppWindow));
  if (options.window < least || options.window > context) {
    fail(Code::kInvalidArgument, "--window must be {} to {} (the model's context), got {}", least,
         context, options.window);
  }
  if (!sliding && flags.stride)
    fail(Code::kInvalidArgument, "--stride: windows of this method do not overlap");
  options.stride = flags.stride.value_or(std::max<int64_t>(1, options.window / 2));
  if (sliding && (options.stride < 1 || options.stride >= options.window)) {
    fail(Code::kInvalidArgument, "--stride must be 1 to {} (less than the window of {}), got {}",
         options.window - 1, options.window, options.stride);
  }
  return options;
}

void check_run_fits(const std::vector<const TextModel*>& models, Device& device,
                    const TextWindows& text, const WindowRunOptions& options) {
  uint64_t need = 0;
  for (const TextModel* model : models) need += window_run_bytes(*model, device, text, options);
  const uint64_t free_bytes = available_memory_bytes(device);
  if (need <= free_bytes) return;
  fail(Code::kOutOfMemory,
       "scoring needs {} for KV cache and logits, {} are free: lower --batch, --chunk or --window",
       human_bytes(need), human_bytes(free_bytes));
}

}  // namespace erne::cli
