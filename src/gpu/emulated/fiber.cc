#include "gpu/emulated/fiber.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>

#include "base/error.h"

#if defined(__x86_64__)
// Saves the callee's registers on the old stack, and takes those of the new one: void
// erne_fiber_switch(void** save_stack, void* load_stack).
asm(R"(
.text
.globl erne_fiber_switch
.type erne_fiber_switch, @function
erne_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size erne_fiber_switch, . - erne_fiber_switch
)");
extern "C" void erne_fiber_switch(void** save_stack, void* load_stack);
#endif

namespace erne::gpu::emulated {
namespace {

constexpr size_t kStackBytes = 128 << 10;

}  // namespace

struct Fiber::State {
  uint8_t* stack = nullptr;
  void (*entry)(void*) = nullptr;
  void* argument = nullptr;
#if defined(__x86_64__)
  void* inside = nullptr;
  void* outside = nullptr;
#else
  ucontext_t inside;
  ucontext_t outside;
#endif
};

Fiber::Fiber() : state_(new State) {
  void* stack = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ERNE_CHECK(stack != MAP_FAILED);
  ::mprotect(stack, 4096, PROT_NONE);  // a stack that grows too far ends here
  state_->stack = static_cast<uint8_t*>(stack);
}

Fiber::~Fiber() {
  ::munmap(state_->stack, kStackBytes);
  delete state_;
}

#if defined(__x86_64__)

namespace {

// The first switch to a fiber returns here with the State in %rbx's slot.
[[noreturn]] void begin(void (*entry)(void*), void* argument) {
  entry(argument);
  __builtin_trap();
}

extern "C" void erne_fiber_begin();
asm(R"(
.text
.globl erne_fiber_begin
.type erne_fiber_begin, @function
erne_fiber_begin:
  movq %r12, %rdi
  movq %r13, %rsi
  call *%rbx
  ud2
.size erne_fiber_begin, . - erne_fiber_begin
)");

}  // namespace

void Fiber::start(void (*entry)(void*), void* argument) {
  // As erne_fiber_switch leaves a stack: r15 r14 r13 r12 rbx rbp, return address.
  auto** top = reinterpret_cast<void**>(state_->stack + kStackBytes) - 2;
  *--top = reinterpret_cast<void*>(&erne_fiber_begin);
  *--top = nullptr;                          // rbp
  *--top = reinterpret_cast<void*>(&begin);  // rbx
  *--top = reinterpret_cast<void*>(entry);   // r12
  *--top = argument;                         // r13
  *--top = nullptr;
  *--top = nullptr;
  state_->inside = top;
}

void Fiber::resume() { erne_fiber_switch(&state_->outside, state_->inside); }
void Fiber::leave() { erne_fiber_switch(&state_->inside, state_->outside); }

#else

namespace {

struct Entry {
  void (*call)(void*);
  void* argument;
};

void begin(unsigned low, unsigned high) {
  const auto* entry = reinterpret_cast<const Entry*>(uintptr_t{low} | uintptr_t{high} << 16 << 16);
  entry->call(entry->argument);
  __builtin_trap();
}

}  // namespace

void Fiber::start(void (*entry)(void*), void* argument) {
  auto* start = reinterpret_cast<Entry*>(state_->stack + kStackBytes) - 1;
  *start = {entry, argument};
  ::getcontext(&state_->inside);
  state_->inside.uc_stack.ss_sp = state_->stack;
  state_->inside.uc_stack.ss_size = kStackBytes - sizeof(Entry);
  state_->inside.uc_link = nullptr;
  const auto address = reinterpret_cast<uintptr_t>(start);
  ::makecontext(&state_->inside, reinterpret_cast<void (*)()>(&begin), 2,
                static_cast<unsigned>(address), static_cast<unsigned>(address >> 16 >> 16));
}

void Fiber::resume() { ::swapcontext(&state_->outside, &state_->inside); }
void Fiber::leave() { ::swapcontext(&state_->inside, &state_->outside); }

#endif

}  // namespace erne::gpu::emulated
