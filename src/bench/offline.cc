#include "bench/offline.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/rng.h"
#include "bench/model_cost.h"
#include "bench/serving_report.h"
#include "model/config.h"

namespace erne::bench {
namespace {

constexpr double kLastWindow_s = 1.0;

/// What all requests of a run tell; written on the engine thread.
class Tally {
 public:
  explicit Tally(const Clock& clock) : clock_(clock) {}

  void expect() {
    const std::lock_guard lock(mutex_);
    ++open_;
    ++without_token_;
  }

  void take(const Output& output, bool first, int prompt_len) {
    const double now = clock_.now_s();
    const std::lock_guard lock(mutex_);
    if (first && --without_token_ == 0) all_started_s_ = now;
    const auto count = output.token_ids.size();
    if (!first && without_token_ == 0) result_.decoded += static_cast<int64_t>(count);
    token_times_.insert(token_times_.end(), count, now);
    if (!output.finish) return;
    if (output.finish->reason == FinishReason::kLength ||
        output.finish->reason == FinishReason::kStop) {
      ++result_.successful;
      result_.total_input += prompt_len;
      result_.total_output += output.usage.completion_tokens;
    } else {
      log::error("a request failed: {}", output.finish->message);
    }
    end_s_ = now;
    if (--open_ == 0) done_.notify_all();
  }

  OfflineResult wait(double begin_s) {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return open_ == 0; });
    OfflineResult result = result_;
    if (token_times_.empty()) return result;
    result.total_latency_s = end_s_ - begin_s;
    result.prefill_s = all_started_s_ - begin_s;
    result.decode_s = end_s_ - all_started_s_;
    const double from = std::max(begin_s, end_s_ - kLastWindow_s);
    const auto recent = std::count_if(token_times_.begin(), token_times_.end(),
                                      [&](double t) { return t >= from; });
    if (end_s_ > from) result.last_gen_throughput = static_cast<double>(recent) / (end_s_ - from);
    return result;
  }

 private:
  const Clock& clock_;
  std::mutex mutex_;
  std::condition_variable done_;
  int open_ = 0;
  int without_token_ = 0;
  double all_started_s_ = 0;
  double end_s_ = 0;
  std::vector<double> token_times_;
  OfflineResult result_;
};

class TallySink final : public OutputSink {
 public:
  TallySink(Tally& tally, int prompt_len) : tally_(tally), prompt_len_(prompt_len) {}
  void on_output(Output output) override {
    tally_.take(output, first_, prompt_len_);
    first_ = false;
  }

 private:
  Tally& tally_;
  int prompt_len_;
  bool first_ = true;
};

double rate(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

}  // namespace

OfflineResult run_offline(Engine& engine, std::span<const BenchRequest> requests, bool logprobs) {
  const SystemClock clock;
  Tally tally(clock);
  const double begin_s = clock.now_s();
  for (const BenchRequest& source : requests) {
    Request request;
    request.prompt_ids = source.ids;
    request.sampling.temperature = 0;
    request.max_new_tokens = source.output_len;
    request.ignore_eos = true;
    request.logprobs = logprobs;
    tally.expect();
    const auto sink = std::make_shared<TallySink>(tally, source.prompt_len);
    try {
      engine.submit(std::move(request), sink);
    } catch (const Error& e) {
      Output refused;
      refused.finish = Finish{FinishReason::kError, {}, e.what()};
      sink->on_output(std::move(refused));
    }
  }
  return tally.wait(begin_s);
}

std::vector<BenchRequest> fixed_requests(int count, int input_len, int output_len,
                                         int64_t vocab_size, uint64_t seed) {
  std::vector<BenchRequest> requests(static_cast<size_t>(count));
  for (size_t r = 0; r < requests.size(); ++r) {
    requests[r].prompt_len = input_len;
    requests[r].output_len = output_len;
    for (int i = 0; i < input_len; ++i) {
      const uint32_t word = philox(seed, r, static_cast<uint64_t>(i))[0];
      requests[r].ids.push_back(static_cast<int32_t>(word % static_cast<uint64_t>(vocab_size)));
    }
  }
  return requests;
}

ShapeReport shape_report(const Engine& engine, const OfflineResult& result, int batch,
                         int input_len, int output_len) {
  const DType dtype = engine.options().dtype.value_or(DType::kBF16);
  ShapeReport shape;
  shape.batch = batch;
  shape.input_len = input_len;
  shape.output_len = output_len;
  shape.threads = engine.options().num_threads;
  shape.dtype = dtype_name(dtype);
  shape.quantization = engine.options().quantization.text();
  shape.prefill_tok_s = rate(static_cast<double>(batch) * input_len, result.prefill_s);
  shape.decode_tok_s = rate(static_cast<double>(result.decoded), result.decode_s);
  const StoredBytes stored = stored_bytes(engine.config(), engine.stats().weight_bytes,
                                          engine.options().cache_dtype.value_or(dtype));
  const double prefill_flops = batch * prefill_cost(engine.config(), stored, input_len).flops;
  shape.prefill_gflops = rate(prefill_flops, result.prefill_s) * 1e-9;
  const double steps = static_cast<double>(result.decoded) / batch;
  const StepCost step = decode_cost(engine.config(), stored, batch, input_len + output_len / 2.0);
  shape.decode_gb_per_s = rate(step.bytes * steps, result.decode_s) * 1e-9;
  return shape;
}

std::string offline_report(const OfflineResult& r) {
  const auto number = [](double value) { return fmt::format("{:.2f}", value); };
  const auto input = static_cast<double>(r.total_input);
  const auto output = static_cast<double>(r.total_output);
  const double seconds = r.total_latency_s;
  std::string text = "\n" + centred(" Offline Throughput Benchmark Result ", '=');
  text += report_row("Backend:", "engine");
  text += report_row("Successful requests:", fmt::format("{}", r.successful));
  text += report_row("Benchmark duration (s):", number(seconds));
  text += report_row("Total input tokens:", fmt::format("{}", r.total_input));
  text += report_row("Total generated tokens:", fmt::format("{}", r.total_output));
  text += report_row("Last generation throughput (tok/s):", number(r.last_gen_throughput));
  text += report_row("Request throughput (req/s):", number(rate(r.successful, seconds)));
  text += report_row("Input token throughput (tok/s):", number(rate(input, seconds)));
  text += report_row("Output token throughput (tok/s):", number(rate(output, seconds)));
  text += report_row("Total token throughput (tok/s):", number(rate(input + output, seconds)));
  return text + centred("", '=');
}

std::string shape_text(const ShapeReport& s) {
  const auto share = [](double achieved, double limit, const char* unit) {
    if (limit <= 0) return fmt::format("{:.1f} {}", achieved, unit);
    return fmt::format("{:.1f} of {:.1f} {} = {:.0f} %", achieved, limit, unit,
                       100 * achieved / limit);
  };
  std::string text = fmt::format("batch {}, {} in, {} out, {}, {} threads\n", s.batch, s.input_len,
                                 s.output_len, s.dtype, s.threads);
  text += fmt::format("prefill: {:10.2f} tok/s   {}\n", s.prefill_tok_s,
                      share(s.prefill_gflops, s.peak_gflops, "GFLOP/s"));
  if (s.output_len > 1) {
    text += fmt::format("decode:  {:10.2f} tok/s   {}\n", s.decode_tok_s,
                        share(s.decode_gb_per_s, s.read_gb_per_s, "GB/s"));
  }
  return text;
}

std::string offline_json(const OfflineResult& r, const std::optional<ShapeReport>& shape) {
  const auto input = static_cast<double>(r.total_input);
  const auto output = static_cast<double>(r.total_output);
  OrderedJson line = {{"backend", "engine"},
                      {"successful_requests", r.successful},
                      {"total_latency", r.total_latency_s},
                      {"total_input_tokens", r.total_input},
                      {"total_output_tokens", r.total_output},
                      {"request_throughput", rate(r.successful, r.total_latency_s)},
                      {"input_throughput", rate(input, r.total_latency_s)},
                      {"output_throughput", rate(output, r.total_latency_s)},
                      {"total_throughput", rate(input + output, r.total_latency_s)},
                      {"last_gen_throughput", r.last_gen_throughput}};
  if (!shape) return dump_json(line);
  line["batch"] = shape->batch;
  line["input_len"] = shape->input_len;
  line["output_len"] = shape->output_len;
  line["dtype"] = shape->dtype;
  line["quantization"] = shape->quantization;
  line["threads"] = shape->threads;
  line["prefill_tok_s"] = shape->prefill_tok_s;
  line["decode_tok_s"] = shape->decode_tok_s;
  line["prefill_gflops"] = shape->prefill_gflops;
  line["decode_gb_per_s"] = shape->decode_gb_per_s;
  if (shape->peak_gflops > 0) {
    line["peak_gflops"] = shape->peak_gflops;
    line["read_gb_per_s"] = shape->read_gb_per_s;
    line["prefill_share_of_peak"] = shape->prefill_gflops / shape->peak_gflops;
    line["decode_share_of_bandwidth"] = rate(shape->decode_gb_per_s, shape->read_gb_per_s);
  }
  return dump_json(line);
}

}  // namespace erne::bench
