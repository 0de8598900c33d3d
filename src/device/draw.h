// A draw of the next token, as a device that keeps the logits makes it: Device::draw(). Plain data,
// which goes to a kernel as it is. The order of the steps is spec serving.md 4.5: penalties, masked
// ids, biases, temperature, top_k, top_p, min_p, and one uniform number.
#pragma once

#include <bit>
#include <cstdint>

namespace erne {

/// A change of one logit; what `value` means depends on the range that it stands in.
struct LogitEdit {
  int32_t id;
  float value;
};

struct Draw {
  double uniform = 0;             ///< [0, 1)
  double top_p = 1;               ///< (0, 1]
  float inverse_temperature = 0;  ///< 0: the best id, the lowest of equals
  float min_p = 0;                ///< [0, 1]
  float repetition = 1;           ///< of every id in the first range: logit / or * repetition
  int32_t row = 0;                ///< of the logits; no other draw of the step has it
  int32_t top_k = 0;              ///< 0: all
  /// Ranges of the step's edits, one behind the other: penalties (distinct ids; `value` is
  /// subtracted after the repetition), ids that may not be drawn, biases (added, in order).
  int32_t edits = 0, penalties_end = 0, masked_end = 0, edits_end = 0;
};

/// e^x for x <= 0: Cephes' reduction and polynomial, without fused multiply-adds, so the same bits
/// on every device. Relative error below 4e-7; 0 below -87.
constexpr float exp_negative(float x) {
  if (!(x > -87.0F)) return 0;
  const auto n = static_cast<int32_t>(x * 1.44269504F - 0.5F);  // truncation rounds, since x <= 0
  const auto nf = static_cast<float>(n);
  const float r = (x - nf * 0.693359375F) + nf * 2.12194440e-4F;
  float p = r * 1.98412698e-4F + 1.38888889e-3F;
  p = p * r + 8.33333333e-3F;
  p = p * r + 4.16666667e-2F;
  p = p * r + 1.66666667e-1F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  return p * std::bit_cast<float>((n + 127) << 23);
}

}  // namespace erne
