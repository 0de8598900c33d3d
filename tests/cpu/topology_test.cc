// Which thread goes where and which rows it packs and reads, on machines that exist as a
// description only.
#include "cpu/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <set>
#include <vector>

#include "base/error.h"
#include "cpu/split.h"
#include "samples.h"

namespace erne::test {
namespace {

using cpu::Placement;
using cpu::Topology;
using testing::ElementsAre;

TEST(Topology, ReadsNodesCoresAndHardwareThreads) {
  const Topology big = Topology::synthetic("numa:2 core:32 pu:2");
  ASSERT_EQ(big.nodes().size(), 2U);
  EXPECT_EQ(big.num_cores(), 64);
  EXPECT_THAT(big.nodes()[0][0], ElementsAre(0, 1));
  EXPECT_THAT(big.nodes()[1][31], ElementsAre(126, 127));
  EXPECT_EQ(Topology::synthetic("pack:2 numa:4 core:12 pu:1").nodes().size(), 8U);
  EXPECT_THROW(Topology::synthetic("a big machine"), Error);
  EXPECT_GE(Topology::of_machine().num_cores(), 1);
}

TEST(Topology, ACoreGetsOneThreadUntilAllHaveOne) {
  const Topology big = Topology::synthetic("numa:2 core:32 pu:2");
  const ThreadPlaces cores = cpu::thread_places(big, 64);
  for (int t = 0; t < 64; ++t) {
    EXPECT_EQ(cores.cpus[static_cast<size_t>(t)], 2 * t);  // the first thread of every core
    EXPECT_EQ(cores.teams[static_cast<size_t>(t)], t / 32);
  }
  const ThreadPlaces all = cpu::thread_places(big, 128);
  const std::set<int> distinct(all.cpus.begin(), all.cpus.end());
  EXPECT_EQ(distinct.size(), 128U);
  EXPECT_TRUE(std::is_sorted(all.teams.begin(), all.teams.end()));
  // Fewer threads than cores: half on each node, spread over its cores (and so over its caches).
  EXPECT_THAT(cpu::thread_places(big, 8).cpus, ElementsAre(0, 16, 32, 48, 64, 80, 96, 112));
  EXPECT_THAT(cpu::thread_places(big, 3).teams, ElementsAre(0, 1, 1));
}

TEST(Topology, PoliciesDoWhatTheySay) {
  const auto place = [](const char* machine, int threads, NumaPolicy policy) {
    return cpu::place_threads(Topology::synthetic(machine), threads, policy);
  };
  const char* two = "numa:2 core:4 pu:2";
  const char* one = "numa:1 core:4 pu:2";
  EXPECT_TRUE(place(two, 8, NumaPolicy::kOff).threads.cpus.empty());
  EXPECT_EQ(place(two, 8, NumaPolicy::kAuto).threads.teams.size(), 8U);
  EXPECT_EQ(place(two, 8, NumaPolicy::kAuto).num_nodes, 2);
  EXPECT_TRUE(place(two, 4, NumaPolicy::kAuto).threads.cpus.empty());  // not the whole machine
  EXPECT_EQ(place(two, 4, NumaPolicy::kBind).threads.cpus.size(), 4U);
  EXPECT_TRUE(place(one, 4, NumaPolicy::kAuto).threads.cpus.empty());
  EXPECT_THAT(place(one, 4, NumaPolicy::kBind).threads.cpus, ElementsAre(0, 2, 4, 6));
  EXPECT_THROW(place(one, 4, NumaPolicy::kInterleave), Error);
  const Placement turns = place(two, 8, NumaPolicy::kInterleave);
  EXPECT_TRUE(turns.threads.teams.empty() && turns.memory.interleave_weights);
  EXPECT_EQ(turns.threads.cpus.size(), 8U);
  EXPECT_EQ(place(two, 0, NumaPolicy::kOff).num_threads, std::min(8, available_cores()));
}

// Every panel is packed by one thread, and products read it on that thread's node for any number of
// row blocks.
TEST(Topology, PanelsStayOnTheirNode) {
  for (const char* machine : {"numa:2 core:3 pu:2", "numa:4 core:2 pu:1", "numa:1 core:5 pu:1"}) {
    const Topology topology = Topology::synthetic(machine);
    const int threads = topology.num_cores();
    ThreadPlaces places = cpu::thread_places(topology, threads);
    places.cpus.clear();  // nothing here moves: this machine has other processors
    ThreadPool pool(threads, places);
    for (const int64_t units : {1, 2, 5, 6, 64, 1001}) {
      std::vector<int> packed_on(static_cast<size_t>(units), -1);
      cpu::each_own_unit(pool, units, [&](int64_t begin, int64_t end) {
        for (int64_t u = begin; u < end; ++u) packed_on[static_cast<size_t>(u)] = 0;
      });
      EXPECT_EQ(std::count(packed_on.begin(), packed_on.end(), 0), units);
      int64_t next = 0, node_begin = 0;
      for (int t = 0; t < threads; ++t) {
        const cpu::UnitShare own = cpu::unit_share(pool, units, t);
        EXPECT_EQ(own.count, pool.team_of(t).count);
        EXPECT_EQ(own.begin, own.index == 0 ? next : node_begin);  // no gaps between nodes
        node_begin = own.begin;
        next = own.end;
        EXPECT_NEAR(static_cast<double>(own.end - own.begin),
                    static_cast<double>(units) * own.count / threads, 1.0);
      }
      EXPECT_EQ(next, units);
    }
  }
}

TEST(Topology, BitsAreTheSameOnAnyMachine) {
  const int64_t n = 210, k = 333, m = 301;
  const Values x(DType::kF32, {m, k}, random_values(m * k, 7));
  const Values w(DType::kF32, {n, k}, random_values(n * k, 8, 0.1F));
  const MatrixView views[] = {{w.tensor().data, DType::kF32, n / 2, k, k, 1},
                              {w.rows(n / 2, n).data, DType::kF32, n / 2, k, k, 1}};
  const auto product = [&](Device& device, LinearKind kind) {
    const Linear linear = device.pack_linear(views, DType::kF32, kind, {});
    const Values y(DType::kF32, {m, kind == LinearKind::kPlain ? n : n / 2});
    device.linear(x.tensor(), linear,
                  kind == LinearKind::kPlain ? Epilogue::kStore : Epilogue::kSiluMul, y.tensor());
    return y.floats();
  };
  for (const LinearKind kind : {LinearKind::kPlain, LinearKind::kGateUp}) {
    const std::vector<float> expected = product(*make_cpu_device(1), kind);
    for (const char* machine : {"numa:2 core:2 pu:2", "numa:3 core:1 pu:1", "numa:2 core:7 pu:1"}) {
      Placement placement = cpu::place_threads(Topology::synthetic(machine), 0, NumaPolicy::kOff);
      const Topology topology = Topology::synthetic(machine);
      placement.num_threads = topology.num_cores();
      placement.threads = cpu::thread_places(topology, placement.num_threads);
      placement.threads.cpus.clear();
      EXPECT_EQ(product(*cpu::make_placed_device("", placement), kind), expected) << machine;
    }
    EXPECT_EQ(product(*make_cpu_device(2, "", NumaPolicy::kBind), kind), expected);
  }
}

TEST(Topology, CallersAreMovedForACallOnly) {
  cpu_set_t before, inside, after;
  ::sched_getaffinity(0, sizeof before, &before);
  int first = 0;
  while (!CPU_ISSET(static_cast<size_t>(first), &before)) ++first;
  ThreadPool pool(1, {{first}, {0}});
  pool.each_thread([&](int) { ::sched_getaffinity(0, sizeof inside, &inside); });
  ::sched_getaffinity(0, sizeof after, &after);
  EXPECT_EQ(CPU_COUNT(&inside), 1);
  EXPECT_TRUE(CPU_ISSET(static_cast<size_t>(first), &inside));
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

}  // namespace
}  // namespace erne::test
