// What cgroups leave a process, from a folder that looks like /proc and /sys.
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "engine/memory.h"
#include "support/temporary_folder.h"

namespace erne {
namespace {

class Cgroups : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  uint64_t free_bytes() const { return cgroup_free_bytes(folder_.path()); }

  testing_support::TemporaryFolder folder_;
};

TEST_F(Cgroups, WithoutALimitEverythingIsFree) {
  EXPECT_EQ(free_bytes(), std::numeric_limits<uint64_t>::max());
  write("proc/self/cgroup", "0::/a\nbroken\n");
  write("sys/fs/cgroup/a/memory.max", "max\n");
  write("sys/fs/cgroup/a/memory.current", "77\n");
  EXPECT_EQ(free_bytes(), std::numeric_limits<uint64_t>::max());
}

TEST_F(Cgroups, PageCacheCountsAsFree) {
  write("sys/fs/cgroup/memory.max", "1000\n");
  write("sys/fs/cgroup/memory.current", "900\n");
  EXPECT_EQ(free_bytes(), 100U);
  write("sys/fs/cgroup/memory.stat", "anon 300\ninactive_file 400\nactive_file 150\nshmem 9\n");
  EXPECT_EQ(free_bytes(), 650U);
  write("sys/fs/cgroup/memory.stat", "inactive_file 4000\n");
  EXPECT_EQ(free_bytes(), 1000U) << "never more than the limit";
}

TEST_F(Cgroups, TheTightestGroupOnTheWayToTheRootCounts) {
  write("proc/self/cgroup", "0::/user/erne\n");
  write("sys/fs/cgroup/user/memory.max", "500\n");
  write("sys/fs/cgroup/user/memory.current", "450\n");
  write("sys/fs/cgroup/user/erne/memory.max", "300\n");
  write("sys/fs/cgroup/user/erne/memory.current", "100\n");
  EXPECT_EQ(free_bytes(), 50U);
  write("proc/self/cgroup", "0::/../outside\n");
  EXPECT_EQ(free_bytes(), std::numeric_limits<uint64_t>::max());
}

TEST_F(Cgroups, VersionOne) {
  write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/job\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1000\n");
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "800\n");
  write("sys/fs/cgroup/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n");
  EXPECT_EQ(free_bytes(), 300U);
}

}  // namespace
}  // namespace erne
