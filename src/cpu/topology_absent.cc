// For builds without hwloc (tools/check_aarch64.sh): one memory node, no descriptions.
#include "base/error.h"
#include "cpu/topology.h"

namespace erne::cpu {

struct Topology::Handle {};

Topology::Topology(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}

Topology Topology::of_machine() {
  Topology topology(nullptr);
  topology.nodes_.emplace_back();
  for (int cpu = 0; cpu < available_cores(); ++cpu) topology.nodes_.front().push_back({cpu});
  return topology;
}

Topology Topology::synthetic(const std::string& description) {
  fail(Code::kUnsupported, "topology '{}': this build has no hwloc", description);
}

void Topology::interleave(void* /*data*/, size_t /*bytes*/) const {}

}  // namespace erne::cpu
