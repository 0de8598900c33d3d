// A stack of its own that one thread of the program enters and leaves: a GPU thread of the
// emulation. No system call in a switch (swapcontext makes one, a hundred times slower).
#pragma once

#include <cstddef>

namespace erne::gpu::emulated {

class Fiber {
 public:
  Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  /// The next resume() calls entry(argument) on this stack. entry never returns: it ends with
  /// leave().
  void start(void (*entry)(void*), void* argument);
  /// Runs the fiber until it leaves.
  void resume();
  /// Called on the fiber: back to who resumed it.
  void leave();

 private:
  struct State;
  State* state_;
};

}  // namespace erne::gpu::emulated
