// What every step of one rendering shares: the place for error messages, the budget that keeps a
// hostile template from eating time or memory, and the objects that templates create. One Runtime
// per rendering, one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace erne::jinja {

class Object;

/// Generous for real templates (a thousand messages with tools take under a million steps), small
/// for a machine.
struct Limits {
  int64_t steps = 10'000'000;              ///< nodes executed, items visited
  int64_t bytes = int64_t{1} << 30;        ///< text and items created in all, temporary or not
  size_t output_bytes = size_t{64} << 20;  ///< length of the rendered prompt
  int depth = 600;                         ///< nested evaluations, macro calls included
  int64_t range = 100'000;                 ///< items of one range()
};

class Runtime {
 public:
  Runtime(std::string_view template_name, const Limits& limits);
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  ~Runtime();

  /// Error{kInvalidArgument} "NAME, line N: message".
  [[noreturn]] void fail(std::string_view message) const { fail(Code::kInvalidArgument, message); }
  [[noreturn]] void fail(Code code, std::string_view message) const;
  /// As fail(), for the use of an undefined value; undefined_used() tells the caller afterwards.
  [[noreturn]] void fail_undefined(std::string_view message);
  bool undefined_used() const { return undefined_used_; }

  /// Throws Error{kInvalidArgument} when the template has done too much.
  void step(int64_t count = 1);
  void charge(size_t bytes);
  /// Counts a search for a pattern, which in the worst case compares it at every place of the text.
  void search(size_t text_size, size_t pattern_size);
  const Limits& limits() const { return limits_; }

  int line() const { return line_; }
  void set_line(int line) { line_ = line; }

  /// Keeps a template's object until the rendering ends: values refer to it without owning it, so
  /// no cycle can leak.
  template <typename T, typename... Args>
  T* create(Args&&... args) {
    step();
    charge(sizeof(T));
    auto owned = std::make_unique<T>(std::forward<Args>(args)...);
    T* object = owned.get();
    objects_.push_back(std::move(owned));
    return object;
  }

  /// Bounds recursion for as long as it lives.
  class Depth {
   public:
    explicit Depth(Runtime& runtime) : runtime_(runtime) { runtime_.enter(); }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;
    ~Depth() { --runtime_.depth_; }

   private:
    Runtime& runtime_;
  };

 private:
  void enter();

  std::string template_name_;
  Limits limits_;
  int64_t steps_ = 0;
  int64_t bytes_ = 0;
  int depth_ = 0;
  int line_ = 1;
  bool undefined_used_ = false;
  std::vector<std::unique_ptr<Object>> objects_;
};

}  // namespace erne::jinja
