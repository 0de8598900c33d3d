// Rotations by Hadamard matrices (spec quantization.md 4, 7.3, 9): blocks of inputs are mixed so
// that no single one is large, which makes a static activation scale fit.
#pragma once

#include <cstdint>

namespace erne {

/// Throws Error{kInvalidArgument} unless block is a power of two and divides cols.
void check_rotation(int64_t cols, int32_t block);

/// x[n] := x H for every block of `block` values; H is the unnormalised +-1 matrix in Sylvester's
/// order (H_1 = [1], H_2n = [[H, H], [H, -H]]), so twice gives block times x. n log2(block) sums,
/// from neighbours outwards. What check_rotation checks must hold.
void hadamard(float* x, int64_t n, int32_t block);

}  // namespace erne
