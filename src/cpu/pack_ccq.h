// The panels of 2-bit weights (CodeType kCcq25, kCcq2), in the bits of the format itself.
//
// A panel holds its groups of 64 columns in order, each of them words of 32 bits, [word][row], then
// for kCcq2 the local scales, a byte for rows r (low bits) and r + panel / 2 (high bits); then the
// constants of the rows as f32: super, and for kCcq2 code_scale and code_zp. kCcq25 has five words
// a group, each two of the format's (the first in the low half); kCcq2 four, each four codes, the
// first in the low byte.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/linear_kernel.h"
#include "tensor/code_rows.h"

namespace erne::cpu {

int64_t ccq_panel_bytes(const WeightLayout& layout, CodeType type, int64_t k);

/// Writes rows into panels; one for each thread.
class CcqPacker {
 public:
  CcqPacker(const WeightLayout& layout, CodeType type, int64_t k);

  int64_t panel_bytes() const { return ccq_panel_bytes(layout_, type_, k_); }
  /// Row `source_row` becomes row `row` of a panel, which starts as zeros.
  void pack(const CodeRows& source, int64_t source_row, int64_t row, uint8_t* panel);

 private:
  const WeightLayout& layout_;
  CodeType type_;
  int64_t k_;
  std::vector<uint8_t> bytes_;
};

}  // namespace erne::cpu
