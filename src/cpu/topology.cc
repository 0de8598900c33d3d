// What hwloc says of the machine. topology_absent.cc stands in for it where there is no hwloc.
#include "cpu/topology.h"

#include <hwloc.h>

#include <utility>

#include "base/error.h"

namespace erne::cpu {

struct Topology::Handle {
  hwloc_topology_t topology = nullptr;

  Handle() { hwloc_topology_init(&topology); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { hwloc_topology_destroy(topology); }

  // Without what placement does not ask for: it takes time to find out.
  bool load() {
    hwloc_topology_set_cache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_icache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    return hwloc_topology_load(topology) == 0;
  }
};

namespace {

Core hardware_threads(hwloc_const_cpuset_t set) {
  Core core;
  for (int cpu = hwloc_bitmap_first(set); cpu >= 0; cpu = hwloc_bitmap_next(set, cpu))
    core.push_back(cpu);
  return core;
}

std::vector<std::vector<Core>> find_nodes(hwloc_topology_t topology) {
  std::vector<std::vector<Core>> nodes;
  hwloc_bitmap_t seen = hwloc_bitmap_alloc();  // nodes of slower or faster memory share their cores
  const int count = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
  for (int n = 0; n < count; ++n) {
    const hwloc_obj_t node =
        hwloc_get_obj_by_type(topology, HWLOC_OBJ_NUMANODE, static_cast<unsigned>(n));
    std::vector<Core> cores;
    hwloc_obj_t core = nullptr;
    while ((core = hwloc_get_next_obj_inside_cpuset_by_type(topology, node->cpuset, HWLOC_OBJ_CORE,
                                                            core)) != nullptr) {
      if (hwloc_bitmap_intersects(seen, core->cpuset)) continue;
      cores.push_back(hardware_threads(core->cpuset));
      hwloc_bitmap_or(seen, seen, core->cpuset);
    }
    // What is left belongs to no core that the system knows: each hardware thread is one.
    for (const int cpu : hardware_threads(node->cpuset)) {
      if (hwloc_bitmap_isset(seen, static_cast<unsigned>(cpu))) continue;
      cores.push_back({cpu});
      hwloc_bitmap_set(seen, static_cast<unsigned>(cpu));
    }
    if (!cores.empty()) nodes.push_back(std::move(cores));
  }
  hwloc_bitmap_free(seen);
  return nodes;
}

}  // namespace

Topology::Topology(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {
  if (handle_ != nullptr) nodes_ = find_nodes(handle_->topology);
}

Topology Topology::of_machine() {
  auto handle = std::make_shared<Handle>();
  hwloc_topology_set_flags(handle->topology, HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING);
  if (handle->load()) {
    Topology topology(std::move(handle));
    if (topology.num_cores() > 0) return topology;
  }
  Topology topology(nullptr);
  topology.nodes_.emplace_back();
  for (int cpu = 0; cpu < available_cores(); ++cpu) topology.nodes_.front().push_back({cpu});
  return topology;
}

Topology Topology::synthetic(const std::string& description) {
  auto handle = std::make_shared<Handle>();
  if (hwloc_topology_set_synthetic(handle->topology, description.c_str()) != 0 || !handle->load())
    fail(Code::kInvalidArgument, "hwloc knows no topology '{}'", description);
  return Topology(std::move(handle));
}

void Topology::interleave(void* data, size_t bytes) const {
  if (handle_ == nullptr || nodes_.size() < 2 || bytes == 0) return;
  // Where it fails, memory comes from wherever it is touched first: slower, not wrong.
  hwloc_set_area_membind(handle_->topology, data, bytes,
                         hwloc_topology_get_topology_nodeset(handle_->topology),
                         HWLOC_MEMBIND_INTERLEAVE, HWLOC_MEMBIND_BYNODESET);
}

}  // namespace erne::cpu
