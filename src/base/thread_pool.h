// Persistent workers for kernels: fixed partition of an index range, spin then park, the caller
// works too.
//
// The partition depends only on (size, num_threads); kernels must give the same bits for any
// partition (design promise 2), so they split over rows, columns or heads, never over a sum.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace erne {

class ThreadPool {
 public:
  /// num_threads >= 1 counts the calling thread; 0 takes the number of cores this process may run
  /// on.
  explicit ThreadPool(int num_threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int num_threads() const;

  /// Calls body(begin, end, thread) on disjoint ranges that cover [0, size), range ends multiples
  /// of `grain`; returns when all are done. One caller at a time; body must not throw and must not
  /// call parallel_for. thread in [0, num_threads).
  template <typename Body>
  void parallel_for(int64_t size, int64_t grain, Body&& body) {
    using Fn = std::remove_reference_t<Body>;
    run(
        size, grain,
        [](void* context, int64_t begin, int64_t end, int thread) {
          (*static_cast<Fn*>(context))(begin, end, thread);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Task = void (*)(void* context, int64_t begin, int64_t end, int thread);
  void run(int64_t size, int64_t grain, Task task, void* context);

  struct State;
  std::unique_ptr<State> state_;
};

/// Cores that this process may use: affinity mask and cgroup quota, at least 1.
int available_cores();

}  // namespace erne
