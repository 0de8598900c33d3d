// What the host decides for a GPU: device numbers, sizes, the step's packet, and that what the
// emulation promises to catch is caught.
#include <gtest/gtest.h>

#include "gpu/emulated/gpu_emulated.h"
#include "gpu/rt/card_index.h"
#include "gpu/rt/gpu.h"
#include "gpu/step_input.h"
#include "gpu/test_device.h"
#include "gpu/weight_layout.h"

namespace erne::test {
namespace {

std::string message_of(int index, int count) {
  try {
    gpu::check_index(index, count);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kInvalidArgument);
    return e.what();
  }
  return "";
}

TEST(CardIndex, AWrongOneNamesTheDevicesThereAre) {
  EXPECT_EQ(message_of(0, 1), "");
  EXPECT_EQ(message_of(1, 1), "--device cuda:1: there is 1 device here, cuda:0");
  EXPECT_EQ(message_of(5, 2), "--device cuda:5: there are 2 devices here, cuda:0 to cuda:1");
}

TEST(WeightLayout, RowsAreWholePiecesAndSetsOfScalesFollow) {
  using gpu::code_shape;
  using gpu::weight_bytes;
  EXPECT_EQ(weight_bytes(gpu::float_shape(3, 9, DType::kBF16)), 3U * 32);
  EXPECT_EQ(weight_bytes(gpu::float_shape(3, 9, DType::kF32)), 3U * 48);
  EXPECT_EQ(weight_bytes(code_shape(8, 64, {CodeType::kInt4, 32, false, DType::kF16})),
            8U * 32 + 8 * 2 * 2);
  EXPECT_EQ(weight_bytes(code_shape(8, 64, {CodeType::kInt8, 0, true, DType::kF32})),
            8U * 64 + 2 * 8 * 4);
  uint8_t row[16];
  const int8_t codes[3] = {-8, 7, 0};
  gpu::store_codes(code_shape(1, 3, {CodeType::kInt4, 0, false, DType::kF32}), codes, row);
  EXPECT_EQ(row[0], 0xF0);
  EXPECT_EQ(row[1], 0x88);
  EXPECT_EQ(row[15], 0x88);
}

TEST(StepInput, SpansThatWereNotAnnouncedAbort) {
  gpu::Stream stream = gpu::create_stream();
  {
    gpu::StepInput input(stream);
    const OneSequence step(3, {2});
    input.begin(step.batch());
    EXPECT_EQ(input.longest(), 3);
    EXPECT_NE(input.on_device(step.logit_rows), nullptr);
    const std::vector<int32_t> other(3);
    EXPECT_DEATH(input.on_device(other), "begin_step");
  }
  gpu::destroy_stream(stream);
}

// --- the emulation

GPU_KERNEL half_a_barrier(int) {
  if (gpu::thread_index() < 32) gpu::block_sync();
}
GPU_KERNEL half_a_warp(float* x) {
  if (gpu::thread_index() % 2 == 0) x[0] = gpu::warp_sum(1.0F);
}
GPU_KERNEL write_at(float* x) { x[0] = 1.0F; }

template <typename Kernel, typename Argument>
void run(Kernel kernel, Argument argument) {
  gpu::Stream stream = gpu::create_stream();
  gpu::launch(stream, kernel, gpu::Grid{1, 1, 1}, 128, argument);
  gpu::destroy_stream(stream);
}

TEST(Emulation, ABarrierThatNotAllReachAborts) {
  EXPECT_DEATH(run(half_a_barrier, 0), "some threads wait in block_sync");
}

TEST(Emulation, AWarpCallThatNotAllLanesReachAborts) {
  Buffer x = gpu::device_buffer(4);
  EXPECT_DEATH(run(half_a_warp, x.as<float>()), "wait at different places|some threads wait");
}

TEST(Emulation, AWriteBehindAnAllocationIsCaught) {
  Buffer x = gpu::device_buffer(64);
  run(write_at, x.as<float>() + 15);
  EXPECT_DEATH(run(write_at, x.as<float>() + 16), "");
}

TEST(Emulation, TheHostMayNotTouchDeviceMemory) {
  Buffer x = gpu::device_buffer(4);
  EXPECT_DEATH(x.as<float>()[0] = 1.0F, "");
}

TEST(Emulation, WorkWaitsForTheHostToAsk) {
  gpu::Stream stream = gpu::create_stream();
  Buffer there = gpu::device_buffer(4);
  float value = 1.0F;
  gpu::copy_to_device(stream, there.data(), &value, 4);
  value = 2.0F;  // too early: a real copy may not have run yet
  float back = 0;
  gpu::copy_to_host(stream, &back, there.data(), 4);
  EXPECT_EQ(back, 0.0F);
  gpu::synchronize(stream);
  EXPECT_EQ(back, 2.0F);
  gpu::destroy_stream(stream);
}

}  // namespace
}  // namespace erne::test
