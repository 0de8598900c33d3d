// The roofline measures something on every instruction set, and prints it in both forms.
#include "bench/roofline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "cpu/isa.h"

namespace erne::bench {
namespace {

TEST(RooflineTest, CoversEveryIsaAndPrintsIt) {
  const Roofline roofline = measure_roofline(2);
  ASSERT_EQ(roofline.points.size(), 2U);
  EXPECT_EQ(roofline.points[0].threads, 1);
  EXPECT_EQ(roofline.points[1].threads, 2);
  for (const RooflinePoint& point : roofline.points) {
    EXPECT_GT(point.read_gb_per_s, 0);
    ASSERT_EQ(point.peaks.size(), available_isas().size());
    for (const PeakRate& peak : point.peaks) EXPECT_GT(peak.f32_gflops, 0) << peak.isa;
  }
  EXPECT_THAT(to_table(roofline), testing::HasSubstr(available_isas().back()));
  const Json json = Json::parse(to_json(roofline));
  EXPECT_EQ(json["points"].size(), 2U);
  EXPECT_GT(json["points"][1]["peaks"][0]["f32_gflops"].get<double>(), 0);
}

}  // namespace
}  // namespace erne::bench
