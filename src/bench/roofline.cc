#include "bench/roofline.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/json.h"
#include "base/thread_pool.h"
#include "cpu/isa.h"
#include "tensor/buffer.h"

namespace erne::bench {
namespace {

constexpr double kPeakSeconds = 0.03;
constexpr int kPeakRuns = 3;
constexpr int kReadRuns = 5;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds that `body(thread)` takes on every thread of the pool at once.
template <typename Body>
double time_on_all(ThreadPool& pool, Body&& body) {
  pool.parallel_for(pool.num_threads(), 1, [](int64_t, int64_t, int) {});  // wakes the workers
  const double start = now_s();
  pool.parallel_for(pool.num_threads(), 1, [&](int64_t, int64_t, int thread) { body(thread); });
  return now_s() - start;
}

double peak_rate(const cpu::PeakLoop& loop, ThreadPool& pool) {
  if (loop.run == nullptr) return 0;
  int64_t iterations = 1000;
  double seconds = 0;
  while ((seconds = time_on_all(pool, [&](int) { loop.run(iterations); })) < kPeakSeconds) {
    iterations = seconds < kPeakSeconds / 20 ? iterations * 10 : iterations * 2;
  }
  for (int run = 1; run < kPeakRuns; ++run) {
    seconds = std::min(seconds, time_on_all(pool, [&](int) { loop.run(iterations); }));
  }
  const double operations = static_cast<double>(loop.operations) * static_cast<double>(iterations);
  return operations * pool.num_threads() / seconds / 1e9;
}

/// Memory that no cache holds: 512 MB, or a quarter of what is free.
size_t buffer_bytes() {
  const auto free = static_cast<size_t>(::sysconf(_SC_AVPHYS_PAGES)) *
                    static_cast<size_t>(::sysconf(_SC_PAGE_SIZE));
  return std::clamp<size_t>(free / 4, size_t{64} << 20, size_t{512} << 20) & ~size_t{0xFFFFF};
}

double read_rate(const Buffer& buffer, const cpu::Kernels& kernels, ThreadPool& pool) {
  const auto threads = static_cast<size_t>(pool.num_threads());
  const size_t part = buffer.size() / threads / 4096 * 4096;
  double best = 0;
  std::vector<uint64_t> sums(threads * 8);
  for (int run = 0; run < kReadRuns; ++run) {
    const double seconds = time_on_all(pool, [&](int thread) {
      const auto t = static_cast<size_t>(thread);
      sums[t * 8] += kernels.read_all(buffer.as<uint8_t>() + t * part, static_cast<int64_t>(part));
    });
    best = std::max(best, static_cast<double>(part * threads) / seconds / 1e9);
  }
  return best;
}

RooflinePoint measure_point(int threads, const Buffer& buffer) {
  ThreadPool pool(threads);
  RooflinePoint point;
  point.threads = pool.num_threads();
  for (const std::string& isa : available_isas()) {
    const cpu::Kernels& kernels = cpu::select_kernels(isa);
    point.read_gb_per_s = std::max(point.read_gb_per_s, read_rate(buffer, kernels, pool));
    point.peaks.push_back({isa, peak_rate(kernels.peak_f32, pool),
                           peak_rate(kernels.peak_bf16, pool), peak_rate(kernels.peak_int8, pool)});
  }
  return point;
}

std::string cell(double rate) { return rate > 0 ? fmt::format("{:.0f}", rate) : "-"; }

}  // namespace

Roofline measure_roofline(int threads) {
  Buffer buffer = Buffer::host(buffer_bytes());
  ThreadPool pool(threads);
  pool.parallel_for(
      static_cast<int64_t>(buffer.size()), 1 << 20, [&](int64_t begin, int64_t end, int) {
        std::memset(buffer.as<uint8_t>() + begin, 1, static_cast<size_t>(end - begin));
      });
  Roofline roofline;
  roofline.processor = cpu::processor_name();
  roofline.buffer_mb = static_cast<double>(buffer.size()) / 1e6;
  roofline.points.push_back(measure_point(1, buffer));
  if (pool.num_threads() > 1) roofline.points.push_back(measure_point(pool.num_threads(), buffer));
  return roofline;
}

double best_peak_gflops(const RooflinePoint& point, DType dtype) {
  double best = 0;
  for (const PeakRate& peak : point.peaks) {
    const bool bf16 = dtype == DType::kBF16 && peak.bf16_gflops > 0;
    best = std::max(best, bf16 ? peak.bf16_gflops : peak.f32_gflops);
  }
  return best;
}

std::string to_table(const Roofline& roofline) {
  std::string text =
      fmt::format("{}\n{:>7}  {:>9}  {:<12} {:>12} {:>12} {:>10}\n", roofline.processor, "threads",
                  "read GB/s", "ISA", "f32 GFLOP/s", "bf16 GFLOP/s", "int8 GOP/s");
  for (const RooflinePoint& point : roofline.points) {
    for (const PeakRate& peak : point.peaks) {
      text += fmt::format("{:>7}  {:>9.1f}  {:<12} {:>12} {:>12} {:>10}\n", point.threads,
                          point.read_gb_per_s, peak.isa, cell(peak.f32_gflops),
                          cell(peak.bf16_gflops), cell(peak.int8_gops));
    }
  }
  return text;
}

std::string to_json(const Roofline& roofline) {
  OrderedJson json = {{"processor", roofline.processor}, {"buffer_mb", roofline.buffer_mb}};
  json["points"] = OrderedJson::array();
  for (const RooflinePoint& point : roofline.points) {
    OrderedJson peaks = OrderedJson::array();
    for (const PeakRate& peak : point.peaks) {
      peaks.push_back({{"isa", peak.isa},
                       {"f32_gflops", peak.f32_gflops},
                       {"bf16_gflops", peak.bf16_gflops},
                       {"int8_gops", peak.int8_gops}});
    }
    json["points"].push_back(
        {{"threads", point.threads}, {"read_gb_per_s", point.read_gb_per_s}, {"peaks", peaks}});
  }
  return json.dump(2);
}

}  // namespace erne::bench
