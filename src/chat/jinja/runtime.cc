#include "chat/jinja/runtime.h"

#include "chat/jinja/value.h"

namespace erne::jinja {

Runtime::Runtime(std::string_view template_name, const Limits& limits)
    : template_name_(template_name), limits_(limits) {}

Runtime::~Runtime() = default;

void Runtime::fail(Code code, std::string_view message) const {
  erne::fail(code, "{}, line {}: {}", template_name_, line_, message);
}

void Runtime::fail_undefined(std::string_view message) {
  undefined_used_ = true;
  fail(message);
}

void Runtime::step(int64_t count) {
  steps_ += count;
  if (steps_ > limits_.steps)
    fail(fmt::format("the template takes more than {} steps", limits_.steps));
}

void Runtime::charge(size_t bytes) {
  // Compared before adding, so that a huge request cannot overflow the sum.
  if (bytes > static_cast<size_t>(limits_.bytes - bytes_)) {
    fail(fmt::format("the template creates more than {} bytes of text and lists", limits_.bytes));
  }
  bytes_ += static_cast<int64_t>(bytes);
}

void Runtime::search(size_t text_size, size_t pattern_size) {
  constexpr double kComparisonsPerStep = 4096;
  const double steps =
      static_cast<double>(text_size) * static_cast<double>(pattern_size) / kComparisonsPerStep;
  step(steps < 1e15 ? static_cast<int64_t>(steps) : limits_.steps);
}

void Runtime::enter() {
  // The guard's destructor does not run when this throws, so the count is taken back here.
  if (++depth_ > limits_.depth) {
    --depth_;
    fail(fmt::format("evaluation nested deeper than {} levels", limits_.depth));
  }
}

}  // namespace erne::jinja
