// What this machine can do at best: bytes read from memory and multiply-adds per second, by
// instruction set and thread count. Every speed that erne reports is a share of one of these
// (Williams, Waterman & Patterson, "Roofline", 2009).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace erne::bench {

struct PeakRate {
  std::string isa;
  double f32_gflops = 0;
  double bf16_gflops = 0;  ///< 0 where the ISA multiplies no bf16: its kernels run at the f32 rate
  double int8_gops = 0;    ///< 0 likewise
};

struct RooflinePoint {
  int threads = 1;
  double read_gb_per_s = 0;  ///< 10^9 bytes a second from memory, larger than any cache
  std::vector<PeakRate> peaks;
};

struct Roofline {
  std::string processor;
  double buffer_mb = 0;
  std::vector<RooflinePoint> points;  ///< one thread, then `threads`
};

/// Takes about two seconds and 512 MB (less where memory is short). threads 0: all cores. Best of
/// several runs each.
Roofline measure_roofline(int threads);

/// The peak of the fastest instruction set for a model that computes in `dtype` (f32 or bf16).
double best_peak_gflops(const RooflinePoint& point, DType dtype);

std::string to_table(const Roofline& roofline);
std::string to_json(const Roofline& roofline);

}  // namespace erne::bench
