// A golden's model as some options load it, and its logits over the golden's longest sequence.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cpu/cpu_device.h"
#include "model/checkpoint.h"
#include "model/text_model.h"
#include "model/verify.h"

namespace erne::testing_support {

inline const std::filesystem::path kGoldens =
    std::filesystem::path(ERNE_TESTS_DIR) / "goldens/text";

class Runner {
 public:
  Runner(const std::filesystem::path& folder, const char* golden, const LoadOptions& options,
         int threads = 2, const std::string& isa = "")
      : device_(make_cpu_device(threads, isa)), checkpoint_(Checkpoint::open(folder)) {
    model_ = TextModel::load(checkpoint_, *device_, options);
    golden_ = read_golden(kGoldens / golden / "golden.safetensors", checkpoint_->config());
  }

  /// [T, V], the prompt in chunks of `chunk` tokens.
  std::vector<float> logits(int64_t chunk) const {
    const std::vector<int32_t>& ids = golden_.sequences.back().ids;
    const auto total = static_cast<int64_t>(ids.size());
    constexpr int kBlock = 16;
    const auto blocks = static_cast<int32_t>((total + kBlock - 1) / kBlock);
    KvCache cache = device_->make_kv_cache(model_->kv_spec(kBlock), blocks);
    std::vector<int32_t> table;
    for (int32_t b = 0; b < blocks; ++b) table.push_back(b);
    std::vector<float> all;
    for (int64_t first = 0; first < total; first += chunk) {
      const int64_t count = std::min(chunk, total - first);
      std::vector<int32_t> positions;
      std::vector<int32_t> rows;
      for (int64_t i = 0; i < count; ++i) {
        positions.push_back(static_cast<int32_t>(first + i));
        rows.push_back(static_cast<int32_t>(i));
      }
      const std::vector<int32_t> starts = {0, static_cast<int32_t>(count)};
      const std::vector<int32_t> context = {static_cast<int32_t>(first + count)};
      const Batch batch{std::span(ids).subspan(static_cast<size_t>(first), positions.size()),
                        positions,
                        starts,
                        context,
                        table,
                        blocks,
                        rows};
      Arena arena(Buffer::host(model_->arena_bytes(count, count)));
      Ctx ctx{*device_, arena};
      const Tensor out = model_->forward(ctx, batch, cache);
      all.insert(all.end(), out.ptr<float>(), out.ptr<float>() + out.elements());
    }
    return all;
  }

  const TextModel& model() const { return *model_; }

 private:
  std::unique_ptr<Device> device_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::unique_ptr<TextModel> model_;
  Golden golden_;
};

// The median over the rows of the largest difference, as a share of the largest |logit|: a router's
// choice that flips by a rounding changes its row much, but few rows.
inline double distance(const std::vector<float>& a, const std::vector<float>& b, size_t vocab) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  std::vector<double> gaps(a.size() / vocab, 0.0);
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]);
    const double gap = std::fabs(x - static_cast<double>(b[i]));
    if (!std::isfinite(gap)) return HUGE_VAL;
    largest = std::max(largest, std::fabs(x));
    gaps[i / vocab] = std::max(gaps[i / vocab], gap);
  }
  std::nth_element(gaps.begin(), gaps.begin() + static_cast<ptrdiff_t>(gaps.size() / 2),
                   gaps.end());
  return gaps[gaps.size() / 2] / largest;
}

}  // namespace erne::testing_support
