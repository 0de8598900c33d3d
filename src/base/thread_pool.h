// Persistent workers for kernels: fixed partition of an index range, spin then park, the caller
// works too.
//
// The partition depends only on (size, num_threads); kernels must give the same bits for any
// partition (design promise 2), so they split over rows, columns or heads, never over a sum.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace erne {

/// Where the threads of a pool run. Empty: wherever the system puts them, and all are one team.
struct ThreadPlaces {
  std::vector<int> cpus;   ///< [num_threads] the system's number of each one's processor
  std::vector<int> teams;  ///< [num_threads] ascending: the memory node of each
};

/// Threads of one memory node: [first, first + count).
struct Team {
  int first;
  int count;
};

class ThreadPool {
 public:
  /// num_threads >= 1 counts the calling thread; 0 takes the number of cores this process may run
  /// on. With places.cpus every worker stays on its processor, and whoever calls parallel_for on
  /// that of thread 0 until it returns.
  explicit ThreadPool(int num_threads, ThreadPlaces places = {});
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int num_threads() const;
  Team team_of(int thread) const;

  /// The calling thread, which will call parallel_for for the rest of its life, moves to the
  /// processor of thread 0 for good, which spares every call that move.
  void bind_caller();

  /// Calls body(thread) once on every thread.
  template <typename Body>
  void each_thread(Body&& body) {
    parallel_for(num_threads(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) body(static_cast<int>(t));
    });
  }

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
