// Device, memory, stream: the host's side of a GPU in plain C++, without a vendor's type. Functions
// throw Error with what the driver said and what to do about it. Implemented by runtime_cuda.cc
// and, for the tests, by gpu/emulated/runtime_emulated.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace erne::gpu {

/// A queue of the device: work runs in the order in which it came.
using Stream = struct StreamHandle*;

struct Card {
  std::string kind;    ///< "cuda"
  std::string name;    ///< "NVIDIA H100 80GB HBM3"
  std::string detail;  ///< "132 multiprocessors, sm_90, driver 13.0"
  uint64_t memory_bytes = 0;
  int multiprocessors = 0;
};

/// Makes device `index` the one of this thread and says what it is. Throws Error: kUnavailable for
/// no driver, a driver too old, no device or one that this build has no code for, kInvalidArgument
/// for an index that does not exist.
Card open_card(int index);
/// Makes it the one of the calling thread: before the functions below.
void bind_card(int index);

/// Device memory; throws Error{kOutOfMemory} with what was asked, what is free and the flags that
/// help.
void* allocate(size_t bytes);
void release(void* data);
/// Page-locked host memory.
void* allocate_pinned(size_t bytes);
void release_pinned(void* data);
uint64_t free_bytes();

Stream create_stream();
void destroy_stream(Stream stream);
/// The three return at once; `source` and `target` on the host are page-locked and stay as they are
/// until the stream has come so far.
void copy_to_device(Stream stream, void* target, const void* source, size_t bytes);
void copy_to_host(Stream stream, void* target, const void* source, size_t bytes);
void fill(Stream stream, void* target, uint8_t byte, size_t bytes);
/// Returns when everything in the stream is done. This and all others throw DeviceError once the
/// device is lost for this process.
void synchronize(Stream stream);

/// Throws if the launch just made was refused.
void check_launch();

struct PinnedDeleter {
  void operator()(uint8_t* data) const { release_pinned(data); }
};
/// Owner of page-locked memory.
using Pinned = std::unique_ptr<uint8_t[], PinnedDeleter>;

}  // namespace erne::gpu
