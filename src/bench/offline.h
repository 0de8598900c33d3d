// `erne bench offline`: the engine in this process, no HTTP (spec bench.md 2).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "bench/dataset.h"
#include "engine/engine.h"

namespace erne::bench {

struct OfflineResult {
  int successful = 0;
  double total_latency_s = 0;
  int64_t total_input = 0;  ///< of successful requests
  int64_t total_output = 0;
  double last_gen_throughput = 0;  ///< tokens/s in the last second of the run
  double prefill_s = 0;            ///< until every request had its first token
  int64_t decoded = 0;             ///< tokens after that moment
  double decode_s = 0;
};

/// Submits everything at once, greedy, without end of text, and waits. Requests that the engine
/// refuses are logged and count as failed.
OfflineResult run_offline(Engine& engine, std::span<const BenchRequest> requests, bool logprobs);

/// `count` requests of exactly these lengths, ids drawn from `seed`.
std::vector<BenchRequest> fixed_requests(int count, int input_len, int output_len,
                                         int64_t vocab_size, uint64_t seed);

/// A run of equal requests, told as shares of what the machine can do; the limits are absent where
/// they were not measured.
struct ShapeReport {
  int batch = 0, input_len = 0, output_len = 0, threads = 0;
  std::string dtype;
  std::string quantization;  ///< the plan, "none" without one
  double prefill_tok_s = 0, decode_tok_s = 0;
  double prefill_gflops = 0;   ///< achieved, of the multiply-adds that the shapes need
  double decode_gb_per_s = 0;  ///< achieved, of the bytes that the shapes need
  double peak_gflops = 0;      ///< measured on this machine; 0: unknown
  double read_gb_per_s = 0;    ///< measured on this machine; 0: unknown
};
ShapeReport shape_report(const Engine& engine, const OfflineResult& result, int batch,
                         int input_len, int output_len);

/// The report of the reference, exactly.
std::string offline_report(const OfflineResult& result);
std::string shape_text(const ShapeReport& shape);
/// One line; the reference's keys, and those of `shape` if there is one.
std::string offline_json(const OfflineResult& result, const std::optional<ShapeReport>& shape);

}  // namespace erne::bench
