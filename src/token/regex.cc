#include "token/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/error.h"

namespace erne {
namespace {

// Steps of one match attempt. Honest patterns backtrack at most a few times over a run (10 MB of
// white space against Llama 3's needs 20 million); what takes more is exponential.
uint32_t match_limit(size_t text_bytes) {
  return static_cast<uint32_t>(std::min<size_t>(1'000'000 + 16 * text_bytes, UINT32_MAX));
}

constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr size_t kMaxPatternBytes = 64 << 10;

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct Regex::Program {
  explicit Program(pcre2_code* c) : code(c) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { pcre2_code_free(code); }
  pcre2_code* code;
};

Regex::Regex(std::string_view pattern) : pattern_(pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    fail(Code::kInvalidArgument, "regular expression of {} bytes; at most {} are taken",
         pattern.size(), kMaxPatternBytes);
  }
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  if (code == nullptr) {
    fail(Code::kInvalidArgument, "regular expression \"{}\": {} at byte {}", pattern,
         error_text(error), at);
  }
  program_ = std::make_unique<Program>(code);
  // Without JIT (another CPU, or forbidden executable memory) pcre2_match interprets: slower, same
  // matches.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

struct Regex::Matcher::State {
  State(const pcre2_code* code, size_t text_bytes)
      : data(pcre2_match_data_create_from_pattern(code, nullptr)),
        context(pcre2_match_context_create(nullptr)) {
    pcre2_set_match_limit(context, match_limit(text_bytes));
    pcre2_set_heap_limit(context, kHeapLimitKib);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
  pcre2_match_data* data;
  pcre2_match_context* context;
};

Regex::Matcher::Matcher(const Regex& regex, std::string_view text)
    : regex_(regex),
      text_(text),
      state_(std::make_unique<State>(regex.program_->code, text.size())) {}
Regex::Matcher::~Matcher() = default;

std::optional<ByteRange> Regex::Matcher::find(size_t from) {
  const auto match = [&](uint32_t options) {
    return pcre2_match(regex_.program_->code, reinterpret_cast<PCRE2_SPTR>(text_.data()),
                       text_.size(), from, PCRE2_NO_UTF_CHECK | options, state_->data,
                       state_->context);
  };
  int rc = match(0);
  // JIT code runs on 32 KB of machine stack; the interpreter uses the heap and finds the same
  // match.
  if (rc == PCRE2_ERROR_JIT_STACKLIMIT) rc = match(PCRE2_NO_JIT);
  if (rc == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (rc < 0) {
    fail(Code::kInvalidArgument,
         "text of {} bytes is too hard for the tokenizer's pattern \"{}\": {}", text_.size(),
         regex_.pattern_, error_text(rc));
  }
  const PCRE2_SIZE* span = pcre2_get_ovector_pointer(state_->data);
  // Only \K can move the beginning past the end or before `from`.
  const size_t begin = std::max<size_t>(span[0], from);
  return ByteRange{begin, std::max<size_t>(span[1], begin)};
}

}  // namespace erne
