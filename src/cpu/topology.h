// Cores and memory nodes of the machine, by hwloc, and which thread goes where. Bits never depend
// on it: threads share rows, columns and heads of an operation, never a sum.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "cpu/cpu_device.h"

namespace erne::cpu {

/// A core: the system's numbers of its hardware threads.
using Core = std::vector<int>;

class Topology {
 public:
  /// What this process may run on. Where the system does not tell, one node with available_cores()
  /// cores.
  static Topology of_machine();
  /// For tests: hwloc's synthetic descriptions, e.g. "numa:2 core:32 pu:2". Throws
  /// Error{kInvalidArgument}.
  static Topology synthetic(const std::string& description);

  /// Cores of each memory node that has some.
  const std::vector<std::vector<Core>>& nodes() const { return nodes_; }
  int num_cores() const;
  /// Spreads pages over all nodes by turns; nothing on a machine with one.
  void interleave(void* data, size_t bytes) const;

 private:
  struct Handle;
  explicit Topology(std::shared_ptr<Handle> handle);

  std::shared_ptr<Handle> handle_;  ///< null where the system does not tell
  std::vector<std::vector<Core>> nodes_;
};

/// How a device treats memory; default: as the system does.
struct MemoryNodes {
  std::shared_ptr<const Topology> topology;  ///< null: one node, or left alone
  bool interleave_weights = false;
  /// Of memory that all threads read; nothing without topology.
  void interleave(void* data, size_t bytes) const {
    if (topology != nullptr) topology->interleave(data, bytes);
  }
};

struct Placement {
  int num_threads = 1;
  ThreadPlaces threads;
  MemoryNodes memory;
  int num_nodes = 1;  ///< whose memory is placed
  std::string text;   ///< ", 2 memory nodes", or empty
};

/// Processor and node of each of num_threads threads. Nodes get threads in proportion to their
/// cores, and neighbours share a node. A core gets a second thread when every core of its node has
/// one.
ThreadPlaces thread_places(const Topology& topology, int num_threads);

/// num_threads 0: every core once, or as many as the process's quota allows. Throws
/// Error{kInvalidArgument} as make_cpu_device does.
Placement place_threads(Topology topology, int num_threads, NumaPolicy policy);

/// A device whose threads are placed as a test wants.
std::unique_ptr<Device> make_placed_device(std::string_view isa, Placement placement);

}  // namespace erne::cpu
