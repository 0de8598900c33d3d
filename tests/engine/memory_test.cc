// The budget: what weights will take is known before they are packed, and who has too little is
// told both figures.
#include "engine/memory.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "cpu/cpu_device.h"
#include "model/checkpoint.h"
#include "model/text_model.h"
#include "model/text_weights.h"

namespace erne {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(Memory, WeightsTakeWhatWasForeseen) {
  const std::filesystem::path goldens = std::filesystem::path(ERNE_TESTS_DIR) / "goldens/text";
  for (const char* name : {"dense-tied", "dense-bias", "moe", "moe-sharded"}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const auto device = make_cpu_device(1);
      const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(goldens / name);
      const uint64_t foreseen = packed_weight_bytes(*checkpoint, *device, {dtype, false});
      const auto model = TextModel::load(checkpoint, *device, {dtype, false});
      EXPECT_EQ(model->weight_bytes(), foreseen) << name;
    }
  }
}

TEST(Memory, RefusesWeightsThatDoNotFit) {
  check_weights_fit(7 * kGiB, 8 * kGiB, DType::kF32);
  for (const uint64_t free_bytes : {uint64_t{0}, uint64_t{1}, 8 * kGiB, 8 * kGiB + 1}) {
    try {
      check_weights_fit(8 * kGiB, free_bytes, DType::kF32);
      FAIL() << free_bytes;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kOutOfMemory);
      const std::string message = e.what();
      EXPECT_NE(message.find("8.0 GiB"), std::string::npos) << message;
      EXPECT_NE(message.find("--dtype bfloat16"), std::string::npos) << message;
      EXPECT_NE(message.find("smaller model"), std::string::npos) << message;
    }
  }
  try {
    check_weights_fit(8 * kGiB, kGiB, DType::kBF16);
    FAIL();
  } catch (const Error& e) {
    const std::string message = e.what();
    EXPECT_EQ(message.find("--dtype"), std::string::npos) << message;  // it would not help
    EXPECT_NE(message.find("1.0 GiB"), std::string::npos) << message;
  }
}

TEST(Memory, WeightsTooLargeForAGpuNameItsMemoryAndTheFlag) {
  check_weights_fit(7 * kGiB, 8 * kGiB, DType::kBF16, PoolSharing::kOwnMemory);
  try {
    check_weights_fit(40 * kGiB, 24 * kGiB, DType::kBF16, PoolSharing::kOwnMemory);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kOutOfMemory);
    const std::string message = e.what();
    for (const char* part : {"40.0 GiB", "24.0 GiB of the GPU", "--quantization"})
      EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace erne
