#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace erne {
namespace {

// About 20 to 50 microseconds: longer than the gap between two kernels of a step, far shorter than
// a scheduling quantum.
constexpr int kSpins = 4000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Range {
  int64_t begin, end;
};

Range range_of(int64_t size, int64_t grain, int num_threads, int thread) {
  const int64_t grains = (size + grain - 1) / grain;
  const auto edge = [&](int64_t t) { return std::min(size, grains * t / num_threads * grain); };
  return {edge(thread), edge(thread + 1)};
}

void stay_on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  ::sched_setaffinity(0, sizeof set, &set);  // a processor that went away: the thread roams
}

// Which pool's thread 0 this thread is for good; 0: none's.
thread_local uint64_t bound_pool = 0;
std::atomic<uint64_t> last_pool{0};

// Moves the calling thread for a while.
class Visit {
 public:
  explicit Visit(int cpu) {
    is_moved_ = ::sched_getaffinity(0, sizeof before_, &before_) == 0;
    if (is_moved_) stay_on(cpu);
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  ~Visit() {
    if (is_moved_) ::sched_setaffinity(0, sizeof before_, &before_);
  }

 private:
  cpu_set_t before_;
  bool is_moved_;
};

}  // namespace

struct ThreadPool::State {
  State(int threads, ThreadPlaces where)
      : num_threads(threads), places(std::move(where)), id(last_pool.fetch_add(1) + 1) {}

  const int num_threads;
  const ThreadPlaces places;
  const uint64_t id;
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable start;
  std::atomic<bool> stopping{false};
  // What workers read when they start, on one cache line; what they write when they end, on
  // another.
  alignas(64) std::atomic<uint64_t> generation{
      0};  // one per parallel_for; workers wait for it to change
  Task task = nullptr;
  void* context = nullptr;
  int64_t size = 0;
  int64_t grain = 1;
  alignas(64) std::atomic<int> unfinished{0};
  alignas(64) std::atomic<int> parked{0};

  void work(int thread) {
    if (!places.cpus.empty()) stay_on(places.cpus[static_cast<size_t>(thread)]);
    uint64_t seen = 0;
    while (true) {
      for (int spin = 0; spin < kSpins && generation.load(std::memory_order_acquire) == seen;
           ++spin)
        relax();
      if (generation.load(std::memory_order_acquire) == seen) {
        // Sequentially consistent with release(): either it sees this worker parked, or the wait
        // sees its generation.
        std::unique_lock lock(mutex);
        parked.fetch_add(1, std::memory_order_seq_cst);
        start.wait(lock, [&] { return generation.load(std::memory_order_seq_cst) != seen; });
        parked.fetch_sub(1, std::memory_order_relaxed);
      }
      seen = generation.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_acquire)) return;
      const Range r = range_of(size, grain, num_threads, thread);
      if (r.begin < r.end) task(context, r.begin, r.end, thread);
      unfinished.fetch_sub(1, std::memory_order_release);
    }
  }

  void release() {
    generation.fetch_add(1, std::memory_order_seq_cst);
    if (parked.load(std::memory_order_seq_cst) == 0)
      return;  // all are spinning: no lock, no system call
    {
      const std::lock_guard lock(mutex);
    }  // a worker between its check and its sleep finishes that
    start.notify_all();
  }
};

ThreadPool::ThreadPool(int num_threads, ThreadPlaces places)
    : state_(std::make_unique<State>(num_threads > 0 ? num_threads : available_cores(),
                                     std::move(places))) {
  State& s = *state_;
  const auto fits = [&](const std::vector<int>& list) {
    return list.empty() || list.size() == static_cast<size_t>(s.num_threads);
  };
  ERNE_CHECK(fits(s.places.cpus) && fits(s.places.teams), "places of {} threads for {}",
             s.places.cpus.size(), s.num_threads);
  for (int t = 1; t < s.num_threads; ++t) s.workers.emplace_back([&s, t] { s.work(t); });
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true, std::memory_order_release);
  state_->release();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::num_threads() const { return state_->num_threads; }

Team ThreadPool::team_of(int thread) const {
  const std::vector<int>& teams = state_->places.teams;
  if (teams.empty()) return {0, state_->num_threads};
  const auto [begin, end] =
      std::equal_range(teams.begin(), teams.end(), teams[static_cast<size_t>(thread)]);
  return {static_cast<int>(begin - teams.begin()), static_cast<int>(end - begin)};
}

void ThreadPool::bind_caller() {
  if (state_->places.cpus.empty()) return;
  stay_on(state_->places.cpus.front());
  bound_pool = state_->id;
}

void ThreadPool::run(int64_t size, int64_t grain, Task task, void* context) {
  ERNE_CHECK(size >= 0 && grain > 0, "size {}, grain {}", size, grain);
  State& s = *state_;
  std::optional<Visit> visit;
  if (!s.places.cpus.empty() && bound_pool != s.id) visit.emplace(s.places.cpus.front());
  if (s.num_threads == 1 || size <= grain) {
    if (size > 0) task(context, 0, size, 0);
    return;
  }
  s.task = task;
  s.context = context;
  s.size = size;
  s.grain = grain;
  s.unfinished.store(s.num_threads - 1, std::memory_order_relaxed);
  s.release();
  const Range r = range_of(size, grain, s.num_threads, 0);
  if (r.begin < r.end) task(context, r.begin, r.end, 0);
  for (int spin = 0; s.unfinished.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = ::sched_getaffinity(0, sizeof(set), &set) == 0
                  ? CPU_COUNT(&set)
                  : static_cast<int>(std::thread::hardware_concurrency());
  // cgroup v2: "max 100000" or "<quota> <period>".
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (file >> quota >> period && quota != "max" && period > 0) {
    cores = std::min(cores, static_cast<int>(std::ceil(std::stod(quota) / period)));
  }
  return std::max(1, cores);
}

}  // namespace erne
