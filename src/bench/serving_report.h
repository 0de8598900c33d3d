// From the answers of a run to its figures, the report and the JSON line (spec bench.md 1.7
// to 1.9).
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/serving_backend.h"

namespace erne::bench {

/// Linear interpolation between order statistics at position p/100 * (n - 1), as numpy; 0 for no
/// values.
double percentile(std::vector<double> values, double p);

/// Milliseconds over the requests (or tokens).
struct Distribution {
  double mean = 0, median = 0, std = 0;  ///< std: population
  double p90 = 0, p95 = 0, p99 = 0, max = 0;
};
/// `seconds` in s, the result in ms.
Distribution summarize_ms(const std::vector<double>& seconds);

/// What --goodput asks of a request, in ms; absent: not asked.
struct ServiceGoal {
  std::optional<double> ttft_ms, tpot_ms, e2el_ms;
};
/// "ttft:200,tpot:50,e2el:5000"; any part may be missing. Throws Error{kInvalidArgument} naming the
/// part.
ServiceGoal parse_service_goal(const std::string& text);

struct ServingMetrics {
  double duration_s = 0;
  int completed = 0;
  int64_t total_input = 0;
  int64_t total_output = 0;
  int64_t total_output_retokenized = 0;
  double request_throughput = 0, input_throughput = 0, output_throughput = 0, total_throughput = 0;
  double concurrency = 0;
  double max_output_tokens_per_s = 0;
  int max_concurrent_requests = 0;
  Distribution e2e_ms, ttft_ms, tpot_ms, itl_ms;
  std::optional<double> accept_length;
  std::optional<double> goodput;  ///< requests a second that met every goal
};

/// Figures over the successful results. `count_tokens` re-encodes generated text without special
/// tokens.
ServingMetrics compute_metrics(std::span<const RequestResult> results, double duration_s,
                               const std::function<int(const std::string&)>& count_tokens);
/// Requests per second of `duration_s` that met the goal.
double goodput(std::span<const RequestResult> results, const ServiceGoal& goal, double duration_s);
/// A chunk of an OpenAI stream may hold several accepted tokens: divides its gap by their number
/// and repeats it as often.
void split_itl_by_tokens(std::vector<RequestResult>& results,
                         const std::function<int(const std::string&)>& count_tokens);

/// "4.0", "0.5", "inf": a float as Python prints it.
std::string python_float(double value);

/// What the report and the JSON line say about the run itself.
struct ServingRun {
  std::string tag, backend, dataset_name;
  double request_rate = 0;  ///< may be infinite
  std::optional<int> max_concurrency;
  std::optional<int> sharegpt_output_len;
  int random_input_len = 0, random_output_len = 0;
  double random_range_ratio = 0;
  std::string server_info;  ///< JSON text of /get_server_info; empty: none
};

enum class ReportKind { kStandard, kExtended };
/// The report's text, first an empty line, the last line ended.
std::string format_report(const ServingRun& run, const ServingMetrics& metrics, ReportKind kind);
/// One line of JSON without a line break; `details` adds the per-request lists.
std::string json_line(const ServingRun& run, const ServingMetrics& metrics,
                      std::span<const RequestResult> details);

/// A title centred in 50 columns of `fill`; odd rest goes right.
std::string centred(std::string_view title, char fill);
/// Label padded to 40, a space, value padded to 10.
std::string report_row(std::string_view label, std::string_view value);

}  // namespace erne::bench
