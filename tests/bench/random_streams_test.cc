// Every oracle of spec bench.md 1.4: sums and first values of the published workloads.
#include "bench/random_streams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "base/error.h"

namespace erne::bench {
namespace {

using ::testing::ElementsAre;

struct Workload {
  int input, output, count;
  int64_t input_sum, output_sum;
  std::vector<int> first_inputs, first_outputs;
};

const std::vector<int> kIn1000 = {38, 236, 909, 73, 768, 906, 716, 646, 848, 961};
const std::vector<int> kIn8000 = {5158, 236, 3981, 5193, 7936, 906, 2764, 7814, 2896, 5057};

std::vector<Workload> published() {
  return {
      {1000, 1000, 10, 6101, 4220, kIn1000, {145, 130, 973, 584, 750, 509, 391, 282, 179, 277}},
      {1000, 1000, 80, 39668, 40805, kIn1000, {26, 368, 739, 472, 904, 283, 666, 617, 23, 778}},
      {1000, 1000, 500, 249831, 252662, kIn1000, {94, 165, 622, 303, 849, 796, 329, 541, 643, 740}},
      {1000,
       8000,
       10,
       6101,
       44462,
       kIn1000,
       {145, 4226, 7752, 2798, 6653, 3463, 7450, 1203, 5397, 5375}},
      {1000,
       8000,
       80,
       39668,
       318306,
       kIn1000,
       {4122, 3440, 7907, 5592, 1928, 1307, 7834, 1641, 1047, 5898}},
      {1000,
       8000,
       320,
       158939,
       1301025,
       kIn1000,
       {2500, 6937, 3796, 2278, 5727, 6311, 4784, 7400, 4998, 2128}},
      {8000, 1000, 10, 41941, 4220, kIn8000, {145, 130, 973, 584, 750, 509, 391, 282, 179, 277}},
      {8000, 1000, 80, 300020, 41669, kIn8000, {368, 739, 472, 904, 283, 666, 617, 23, 778, 708}},
      {8000,
       1000,
       320,
       1273893,
       170000,
       kIn8000,
       {793, 724, 230, 607, 167, 688, 232, 902, 80, 576}},
  };
}

std::vector<int> first_ten(const std::vector<int>& values) {
  return {values.begin(), values.begin() + 10};
}

TEST(RandomStreams, PublishedWorkloads) {
  for (const Workload& w : published()) {
    SCOPED_TRACE(testing::Message() << w.input << "/" << w.output << " n=" << w.count);
    NumpyRandom random(1);
    const auto inputs = random_lengths(random, w.input, 0.0, w.count);
    const auto outputs = random_lengths(random, w.output, 0.0, w.count);
    EXPECT_EQ(std::accumulate(inputs.begin(), inputs.end(), int64_t{0}), w.input_sum);
    EXPECT_EQ(std::accumulate(outputs.begin(), outputs.end(), int64_t{0}), w.output_sum);
    EXPECT_EQ(first_ten(inputs), w.first_inputs);
    EXPECT_EQ(first_ten(outputs), w.first_outputs);
  }
}

TEST(RandomStreams, RangeRatioRaisesTheLeastLength) {
  NumpyRandom random(1);
  EXPECT_THAT(random_lengths(random, 1000, 0.5, 10),
              ElementsAre(537, 735, 896, 572, 755, 893, 703, 633, 835, 948));
}

TEST(RandomStreams, ArrivalIntervalsFollowTheLengths) {
  NumpyRandom random(1);
  random_lengths(random, 1000, 0.0, 10);
  random_lengths(random, 1000, 0.0, 10);
  for (const double expected : {0.135835, 0.288970, 0.057181, 0.526174, 0.006942, 0.277520}) {
    EXPECT_NEAR(random.exponential(1.0 / 4), expected, 5e-7);
  }
}

TEST(RandomStreams, OneValueRangeDrawsNothing) {
  NumpyRandom drawing(1), plain(1);
  EXPECT_EQ(drawing.randint(7, 8), 7);
  EXPECT_EQ(drawing.randint(0, 1 << 20), plain.randint(0, 1 << 20));
}

TEST(RandomStreams, FirstWordsOfTheNumpyStream) {
  NumpyRandom random(1);
  for (const int64_t word : std::vector<int64_t>{1791095845, 4282876139, 3093770124, 4005303368}) {
    EXPECT_EQ(random.randint(0, int64_t{1} << 32), word);
  }
}

TEST(RandomStreams, ImpossibleRangesAreRefused) {
  NumpyRandom random(1);
  EXPECT_THROW(random.randint(3, 3), Error);
  EXPECT_THROW(random.randint(0, (int64_t{1} << 32) + 1), Error);
  EXPECT_THROW(random_lengths(random, 0, 0.0, 1), Error);
  EXPECT_THROW(random_lengths(random, 10, 1.5, 1), Error);
}

TEST(RandomStreams, PythonShuffle) {
  std::vector<int> ten(10), hundred(100);
  std::iota(ten.begin(), ten.end(), 0);
  std::iota(hundred.begin(), hundred.end(), 0);
  PythonRandom for_ten(1);
  for_ten.shuffle(ten);
  EXPECT_THAT(ten, ElementsAre(6, 8, 9, 7, 5, 3, 0, 4, 1, 2));
  PythonRandom for_hundred(1);
  for_hundred.shuffle(hundred);
  hundred.resize(5);
  EXPECT_THAT(hundred, ElementsAre(53, 37, 65, 51, 4));
}

}  // namespace
}  // namespace erne::bench
