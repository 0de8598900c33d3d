// Runs the blocks of a launch one after the other, the threads of a block as fibers.
#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "base/error.h"
#include "gpu/emulated/fiber.h"
#include "gpu/rt/gpu.h"

namespace erne::gpu::emulated {
namespace {

constexpr int kMaxThreads = 1024;

enum class State : uint8_t { kReady, kAtBlock, kAtWarp, kDone };

// What the threads of one warp hand to each other. A lane can be at most one exchange ahead of the
// others, so two sets of values are enough.
struct Warp {
  uint64_t values[2][GPU_WARP];
};

class Machine {
 public:
  void run(Grid grid, int threads, const std::function<void()>& body) {
    ERNE_CHECK(threads % GPU_WARP == 0 && threads <= kMaxThreads, "a block of {} threads", threads);
    ERNE_CHECK(grid.y < 65536 && grid.z < 65536, "a grid of {} x {} x {} blocks", grid.x, grid.y,
               grid.z);
    while (std::cmp_less(fibers_.size(), threads)) fibers_.push_back(std::make_unique<Fiber>());
    body_ = &body;
    threads_ = threads;
    state_.resize(static_cast<size_t>(threads));
    exchanges_.resize(static_cast<size_t>(threads));
    warps_.resize(static_cast<size_t>(threads / GPU_WARP));
    const int64_t blocks = grid.x * grid.y * grid.z;
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t b = schedule_ == Schedule::kForward ? i : blocks - 1 - i;
      current.block = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
      run_block();
    }
  }

  void set_schedule(Schedule schedule) { schedule_ = schedule; }

  void yield(State why) {
    const int thread = current.thread;
    state_[static_cast<size_t>(thread)] = why;
    fibers_[static_cast<size_t>(thread)]->leave();
    current.thread = thread;
  }

  const uint64_t* exchange(uint64_t bits) {
    const auto thread = static_cast<size_t>(current.thread);
    auto& values = warps_[thread / GPU_WARP].values[exchanges_[thread]++ % 2];
    values[thread % GPU_WARP] = bits;
    yield(State::kAtWarp);
    return values;
  }

 private:
  static void enter(void* machine) {
    auto* m = static_cast<Machine*>(machine);
    (*m->body_)();
    m->yield(State::kDone);
  }

  bool all(int begin, int end, State state) const {
    return std::all_of(state_.begin() + begin, state_.begin() + end,
                       [&](State s) { return s == state; });
  }

  void run_block() {
    for (int t = 0; t < threads_; ++t)
      fibers_[static_cast<size_t>(t)]->start(&Machine::enter, this);
    std::fill(state_.begin(), state_.end(), State::kReady);
    std::fill(exchanges_.begin(), exchanges_.end(), 0U);
    while (true) {
      for (int w = 0; w < threads_ / GPU_WARP; ++w)
        run_warp(schedule_ == Schedule::kForward ? w : threads_ / GPU_WARP - 1 - w);
      if (all(0, threads_, State::kDone)) return;
      ERNE_CHECK(all(0, threads_, State::kAtBlock),
                 "block ({}, {}, {}): some threads wait in block_sync(), others have ended",
                 current.block.x, current.block.y, current.block.z);
      std::fill(state_.begin(), state_.end(), State::kReady);
    }
  }

  // Until all its lanes have ended or wait for the block.
  void run_warp(int warp) {
    const int first = warp * GPU_WARP;
    const int end = first + GPU_WARP;
    while (true) {
      for (const int lane : lane_order()) {
        if (state_[static_cast<size_t>(first + lane)] != State::kReady) continue;
        current.thread = first + lane;
        fibers_[static_cast<size_t>(first + lane)]->resume();
      }
      if (all(first, end, State::kDone) || all(first, end, State::kAtBlock)) return;
      ERNE_CHECK(all(first, end, State::kAtWarp),
                 "warp {} of block ({}, {}, {}): its lanes wait at different places", warp,
                 current.block.x, current.block.y, current.block.z);
      ERNE_CHECK(std::all_of(exchanges_.begin() + first, exchanges_.begin() + end,
                             [&](unsigned count) {
                               return count == exchanges_[static_cast<size_t>(first)];
                             }),
                 "lanes of a warp are in different warp calls");
      std::fill(state_.begin() + first, state_.begin() + end, State::kReady);
    }
  }

  const std::vector<int>& lane_order() {
    if (order_.empty()) {
      order_.resize(GPU_WARP);
      std::iota(order_.begin(), order_.end(), 0);
    }
    if (schedule_ == Schedule::kForward && order_.front() != 0)
      std::sort(order_.begin(), order_.end());
    if (schedule_ == Schedule::kBackward && order_.front() != GPU_WARP - 1)
      std::sort(order_.rbegin(), order_.rend());
    if (schedule_ == Schedule::kShuffled) std::shuffle(order_.begin(), order_.end(), random_);
    return order_;
  }

  std::vector<std::unique_ptr<Fiber>> fibers_;
  const std::function<void()>* body_ = nullptr;
  int threads_ = 0;
  Schedule schedule_ = Schedule::kForward;
  std::vector<State> state_;
  std::vector<unsigned> exchanges_;
  std::vector<Warp> warps_;
  std::vector<int> order_;
  std::mt19937 random_{1};
};

// Kept to the end of the program; fibers hold its address.
Machine& machine() {
  static Machine* const instance = new Machine;
  return *instance;
}

}  // namespace

void set_schedule(Schedule schedule) { machine().set_schedule(schedule); }
Place current;
void wait_for_block() { machine().yield(State::kAtBlock); }
const uint64_t* exchange(uint64_t bits) { return machine().exchange(bits); }
void run_grid(Grid grid, int threads, const std::function<void()>& body) {
  machine().run(grid, threads, body);
}

}  // namespace erne::gpu::emulated
