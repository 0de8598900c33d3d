#include "bench/serving_report.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "base/error.h"
#include "base/json.h"

namespace erne::bench {
namespace {

constexpr int kWidth = 50;

double ratio(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

double tpot_s(const RequestResult& result) {
  return (result.latency_s - result.ttft_s) / (result.output_len - 1);
}

// Tokens per second and requests per second in buckets of one second from the earliest start.
void add_peaks(std::span<const RequestResult> results, ServingMetrics& metrics) {
  double first_s = INFINITY, last_s = -INFINITY;
  for (const RequestResult& r : results) {
    if (!r.success) continue;
    first_s = std::min(first_s, r.start_s);
    last_s = std::max(last_s, r.start_s + r.latency_s);
  }
  if (first_s > last_s) return;
  const auto buckets = static_cast<size_t>(std::floor(last_s - first_s)) + 1;
  auto bucket = [&](double at_s) {
    return std::min(static_cast<size_t>(std::max(std::floor(at_s - first_s), 0.0)), buckets - 1);
  };
  std::vector<int64_t> tokens(buckets, 0);
  std::vector<int> open(buckets, 0);
  for (const RequestResult& r : results) {
    if (!r.success) continue;
    double at_s = r.start_s + r.ttft_s;
    ++tokens[bucket(at_s)];
    for (const double gap_s : r.itl_s) ++tokens[bucket(at_s += gap_s)];
    for (size_t i = bucket(r.start_s); i <= bucket(r.start_s + r.latency_s); ++i) ++open[i];
  }
  metrics.max_output_tokens_per_s =
      static_cast<double>(*std::max_element(tokens.begin(), tokens.end()));
  metrics.max_concurrent_requests = *std::max_element(open.begin(), open.end());
}

std::string row(std::string_view label, double value) {
  return report_row(label, fmt::format("{:.2f}", value));
}
std::string row(std::string_view label, int64_t value) {
  return report_row(label, fmt::format("{}", value));
}

std::string latency_rows(std::string_view name, const Distribution& d,
                         std::initializer_list<std::string_view> which) {
  std::string text;
  for (const std::string_view part : which) {
    const double value = part == "Mean"     ? d.mean
                         : part == "Median" ? d.median
                         : part == "P90"    ? d.p90
                         : part == "P95"    ? d.p95
                         : part == "P99"    ? d.p99
                                            : d.max;
    text += row(fmt::format("{} {} (ms):", part, name), value);
  }
  return text;
}

std::string traffic_rows(const ServingRun& run, const ServingMetrics& m) {
  std::string text = report_row("Backend:", run.backend);
  text += report_row("Traffic request rate:", python_float(run.request_rate));
  text += report_row("Max request concurrency:",
                     run.max_concurrency ? fmt::format("{}", *run.max_concurrency) : "not set");
  text += row("Successful requests:", int64_t{m.completed});
  text += row("Benchmark duration (s):", m.duration_s);
  text += row("Total input tokens:", m.total_input);
  text += row("Total input text tokens:", m.total_input);
  text += row("Total input vision tokens:", int64_t{0});
  text += row("Total generated tokens:", m.total_output);
  text += row("Total generated tokens (retokenized):", m.total_output_retokenized);
  text += row("Request throughput (req/s):", m.request_throughput);
  text += row("Input token throughput (tok/s):", m.input_throughput);
  text += row("Output token throughput (tok/s):", m.output_throughput);
  text += row("Peak output token throughput (tok/s):", m.max_output_tokens_per_s);
  text += row("Peak concurrent requests:", int64_t{m.max_concurrent_requests});
  text += row("Total token throughput (tok/s):", m.total_throughput);
  text += row("Concurrency:", m.concurrency);
  if (m.accept_length) text += row("Accept length:", *m.accept_length);
  return text;
}

void add_distribution(OrderedJson& line, const std::string& name, const Distribution& d,
                      bool with_p95) {
  line["mean_" + name + "_ms"] = d.mean;
  line["median_" + name + "_ms"] = d.median;
  line["std_" + name + "_ms"] = d.std;
  if (with_p95) line["p95_" + name + "_ms"] = d.p95;
  line["p99_" + name + "_ms"] = d.p99;
}

template <typename Get>
OrderedJson column(std::span<const RequestResult> results, Get get) {
  OrderedJson list = OrderedJson::array();
  for (const RequestResult& r : results) list.push_back(get(r));
  return list;
}

template <typename T>
OrderedJson or_null(const std::optional<T>& value) {
  return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

}  // namespace

double percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  const double position = p / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(position);
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), nth, values.end());
  if (below + 1 == values.size()) return *nth;
  const double above = *std::min_element(nth + 1, values.end());
  return *nth + (position - static_cast<double>(below)) * (above - *nth);
}

Distribution summarize_ms(const std::vector<double>& seconds) {
  Distribution d;
  if (seconds.empty()) return d;
  const auto count = static_cast<double>(seconds.size());
  const double mean = std::accumulate(seconds.begin(), seconds.end(), 0.0) / count;
  double squares = 0;
  for (const double s : seconds) squares += (s - mean) * (s - mean);
  d.mean = mean * 1000;
  d.std = std::sqrt(squares / count) * 1000;
  d.median = percentile(seconds, 50) * 1000;
  d.p90 = percentile(seconds, 90) * 1000;
  d.p95 = percentile(seconds, 95) * 1000;
  d.p99 = percentile(seconds, 99) * 1000;
  d.max = *std::max_element(seconds.begin(), seconds.end()) * 1000;
  return d;
}

ServiceGoal parse_service_goal(const std::string& text) {
  ServiceGoal goal;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t colon = part.find(':');
    const std::string name = part.substr(0, colon);
    const std::string number = colon == std::string::npos ? "" : part.substr(colon + 1);
    char* rest = nullptr;
    const double value = std::strtod(number.c_str(), &rest);
    auto* slot = name == "ttft"   ? &goal.ttft_ms
                 : name == "tpot" ? &goal.tpot_ms
                 : name == "e2el" ? &goal.e2el_ms
                                  : nullptr;
    if (slot == nullptr || number.empty() || *rest != 0 || !(value > 0) || std::isinf(value)) {
      fail(Code::kInvalidArgument,
           "--goodput takes ttft:MS,tpot:MS,e2el:MS (any of them), got \"{}\"", part);
    }
    *slot = value;
  }
  return goal;
}

ServingMetrics compute_metrics(std::span<const RequestResult> results, double duration_s,
                               const std::function<int(const std::string&)>& count_tokens) {
  ServingMetrics m;
  m.duration_s = duration_s;
  std::vector<double> e2e, ttft, tpot, itl;
  for (const RequestResult& r : results) {
    if (!r.success) continue;
    ++m.completed;
    m.total_input += r.prompt_len;
    m.total_output += r.output_len;
    m.total_output_retokenized += count_tokens(r.text);
    e2e.push_back(r.latency_s);
    ttft.push_back(r.ttft_s);
    if (r.output_len > 1) tpot.push_back(tpot_s(r));
    itl.insert(itl.end(), r.itl_s.begin(), r.itl_s.end());
  }
  m.request_throughput = ratio(m.completed, duration_s);
  m.input_throughput = ratio(static_cast<double>(m.total_input), duration_s);
  m.output_throughput = ratio(static_cast<double>(m.total_output), duration_s);
  m.total_throughput = ratio(static_cast<double>(m.total_input + m.total_output), duration_s);
  m.concurrency = ratio(std::accumulate(e2e.begin(), e2e.end(), 0.0), duration_s);
  m.e2e_ms = summarize_ms(e2e);
  m.ttft_ms = summarize_ms(ttft);
  m.tpot_ms = summarize_ms(tpot);
  m.itl_ms = summarize_ms(itl);
  add_peaks(results, m);
  return m;
}

double goodput(std::span<const RequestResult> results, const ServiceGoal& goal, double duration_s) {
  auto met = [](const std::optional<double>& limit_ms, double seconds) {
    return !limit_ms || seconds * 1000 <= *limit_ms;
  };
  int good = 0;
  for (const RequestResult& r : results) {
    const double per_token_s = r.output_len > 1 ? tpot_s(r) : 0;
    if (r.success && met(goal.ttft_ms, r.ttft_s) && met(goal.tpot_ms, per_token_s) &&
        met(goal.e2el_ms, r.latency_s)) {
      ++good;
    }
  }
  return ratio(good, duration_s);
}

void split_itl_by_tokens(std::vector<RequestResult>& results,
                         const std::function<int(const std::string&)>& count_tokens) {
  for (RequestResult& r : results) {
    if (r.chunks.size() != r.itl_s.size()) continue;
    std::vector<double> split;
    for (size_t i = 0; i < r.itl_s.size(); ++i) {
      const int tokens = std::max(count_tokens(r.chunks[i]), 1);
      split.insert(split.end(), static_cast<size_t>(tokens), r.itl_s[i] / tokens);
    }
    r.itl_s = std::move(split);
  }
}

std::string python_float(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text;
}

std::string centred(std::string_view title, char fill) {
  const auto rest = title.size() < kWidth ? kWidth - title.size() : 0;
  return std::string(rest / 2, fill) + std::string(title) + std::string(rest - rest / 2, fill) +
         "\n";
}

std::string report_row(std::string_view label, std::string_view value) {
  return fmt::format("{:<40} {:<10}\n", label, value);
}

std::string format_report(const ServingRun& run, const ServingMetrics& m, ReportKind kind) {
  const bool extended = kind == ReportKind::kExtended;
  std::string text = "\n" + centred(" Serving Benchmark Result ", '=') + traffic_rows(run, m);
  if (extended && m.goodput) text += row("Goodput (req/s):", *m.goodput);
  text += centred("End-to-End Latency", '-') +
          latency_rows("E2E Latency", m.e2e_ms, {"Mean", "Median"});
  if (extended) text += latency_rows("E2E Latency", m.e2e_ms, {"P90", "P95", "P99"});
  text += centred("Time to First Token", '-') + latency_rows("TTFT", m.ttft_ms, {"Mean", "Median"});
  if (extended) text += latency_rows("TTFT", m.ttft_ms, {"P90", "P95"});
  text += latency_rows("TTFT", m.ttft_ms, {"P99"});
  text += centred("Time per Output Token (excl. 1st token)", '-') +
          latency_rows("TPOT", m.tpot_ms, {"Mean", "Median"});
  if (extended) text += latency_rows("TPOT", m.tpot_ms, {"P90", "P95"});
  text += latency_rows("TPOT", m.tpot_ms, {"P99"});
  text += centred("Inter-Token Latency", '-') + latency_rows("ITL", m.itl_ms, {"Mean", "Median"});
  if (extended) text += latency_rows("ITL", m.itl_ms, {"P90"});
  text += latency_rows("ITL", m.itl_ms, {"P95", "P99", "Max"});
  return text + std::string(kWidth, '=') + "\n";
}

std::string json_line(const ServingRun& run, const ServingMetrics& m,
                      std::span<const RequestResult> details) {
  OrderedJson line;
  line["tag"] = run.tag.empty() ? OrderedJson(nullptr) : OrderedJson(run.tag);
  line["backend"] = run.backend;
  line["dataset_name"] = run.dataset_name;
  // JSON knows no infinity.
  line["request_rate"] =
      std::isinf(run.request_rate) ? OrderedJson("inf") : OrderedJson(run.request_rate);
  line["max_concurrency"] = or_null(run.max_concurrency);
  line["sharegpt_output_len"] = or_null(run.sharegpt_output_len);
  line["random_input_len"] = run.random_input_len;
  line["random_output_len"] = run.random_output_len;
  line["random_range_ratio"] = run.random_range_ratio;
  line["server_info"] = run.server_info.empty()
                            ? OrderedJson(nullptr)
                            : parse_ordered_json(run.server_info, "/get_server_info");
  line["duration"] = m.duration_s;
  line["completed"] = m.completed;
  line["total_input_tokens"] = m.total_input;
  line["total_input_text_tokens"] = m.total_input;
  line["total_input_vision_tokens"] = 0;
  line["total_output_tokens"] = m.total_output;
  line["total_output_tokens_retokenized"] = m.total_output_retokenized;
  line["request_throughput"] = m.request_throughput;
  line["input_throughput"] = m.input_throughput;
  line["output_throughput"] = m.output_throughput;
  line["total_throughput"] = m.total_throughput;
  add_distribution(line, "e2e_latency", m.e2e_ms, false);
  add_distribution(line, "ttft", m.ttft_ms, false);
  add_distribution(line, "tpot", m.tpot_ms, false);
  add_distribution(line, "itl", m.itl_ms, true);
  line["max_itl_ms"] = m.itl_ms.max;
  line["concurrency"] = m.concurrency;
  line["accept_length"] = or_null(m.accept_length);
  line["max_output_tokens_per_s"] = m.max_output_tokens_per_s;
  line["max_concurrent_requests"] = m.max_concurrent_requests;
  if (m.goodput) line["goodput"] = *m.goodput;
  if (!details.empty()) {
    line["input_lens"] = column(details, [](const RequestResult& r) { return r.prompt_len; });
    line["output_lens"] =
        column(details, [](const RequestResult& r) { return r.success ? r.output_len : 0; });
    line["ttfts"] = column(details, [](const RequestResult& r) { return r.ttft_s; });
    line["itls"] = column(details, [](const RequestResult& r) { return r.itl_s; });
    line["generated_texts"] = column(details, [](const RequestResult& r) { return r.text; });
    line["errors"] = column(details, [](const RequestResult& r) { return r.error; });
  }
  return dump_json(line);
}

}  // namespace erne::bench
