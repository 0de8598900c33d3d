#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "cpu/topology.h"

namespace erne::cpu {

int Topology::num_cores() const {
  return std::accumulate(nodes_.begin(), nodes_.end(), 0, [](int sum, const auto& cores) {
    return sum + static_cast<int>(cores.size());
  });
}

ThreadPlaces thread_places(const Topology& topology, int num_threads) {
  ThreadPlaces places;
  const int64_t total = topology.num_cores();
  int64_t before = 0;  // cores of the nodes so far
  for (size_t node = 0; node < topology.nodes().size(); ++node) {
    const std::vector<Core>& cores = topology.nodes()[node];
    const auto count = static_cast<int64_t>(cores.size());
    const int64_t first = num_threads * before / total;
    const int64_t threads = num_threads * (before + count) / total - first;
    before += count;
    for (int64_t t = 0; t < threads; ++t) {
      // Spread over the node while there are cores enough, else round after round.
      const int64_t index = threads <= count ? t * count / threads : t % count;
      const Core& core = cores[static_cast<size_t>(index)];
      const auto round = static_cast<size_t>(threads <= count ? 0 : t / count);
      places.cpus.push_back(core[round % core.size()]);
      places.teams.push_back(static_cast<int>(node));
    }
  }
  return places;
}

Placement place_threads(Topology topology, int num_threads, NumaPolicy policy) {
  Placement placement;
  placement.num_threads =
      num_threads > 0 ? num_threads : std::min(topology.num_cores(), available_cores());
  const auto nodes = static_cast<int>(topology.nodes().size());
  if (policy == NumaPolicy::kInterleave && nodes < 2) {
    fail(Code::kInvalidArgument,
         "--numa interleave: this process may use one memory node only, so there is nothing to "
         "interleave; leave the flag out");
  }
  // A process that leaves cores to others would sit on the same ones as its neighbours.
  const bool has_all = placement.num_threads >= topology.num_cores();
  if (policy == NumaPolicy::kOff || (policy == NumaPolicy::kAuto && (nodes < 2 || !has_all)))
    return placement;
  placement.threads = thread_places(topology, placement.num_threads);
  if (policy == NumaPolicy::kInterleave) {  // no node owns rows: all threads are one team
    placement.threads.teams.clear();
    placement.memory.interleave_weights = true;
  }
  placement.num_nodes = nodes;
  placement.text = fmt::format(", {} memory node{}", nodes, nodes == 1 ? "" : "s");
  if (nodes > 1) placement.memory.topology = std::make_shared<Topology>(std::move(topology));
  return placement;
}

}  // namespace erne::cpu
