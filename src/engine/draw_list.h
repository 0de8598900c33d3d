// The draws of one step as a device makes them: SampleArgs to Draws and their edits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/draw.h"
#include "engine/sampler.h"

namespace erne {

class DrawList {
 public:
  void clear();
  /// Of row `row` of the step's logits.
  void add(int32_t row, const SampleArgs& args);

  std::span<const Draw> draws() const { return draws_; }
  std::span<const LogitEdit> edits() const { return edits_; }

 private:
  int32_t num_edits() const { return static_cast<int32_t>(edits_.size()); }

  std::vector<Draw> draws_;
  std::vector<LogitEdit> edits_;
};

}  // namespace erne
