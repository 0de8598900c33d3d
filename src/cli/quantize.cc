// `erne quantize`: a model folder to one with quantised weights.
#include "model/quantize.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/calibration_text.h"
#include "cli/engine_flags.h"
#include "cli/verbs.h"
#include "cpu/cpu_device.h"
#include "model/config.h"

namespace erne::cli {
namespace {

struct QuantizeFlags {
  ModelFlags model;
  QuantizeOptions options;
  std::string scheme;
  std::string mixed;
  std::string report;
  CalibrationTextFlags text;
  std::string method;
  std::string dtype;
};

// The tensor of each scheme that lost most, with the scheme's mean.
void print_errors(const QuantizeResult& result) {
  struct Row {
    int tensors = 0;
    double sum_db = 0;
    uint64_t bytes = 0;
    const TensorError* worst = nullptr;
  };
  std::map<std::string, Row> rows;
  for (const TensorError& error : result.tensors) {
    Row& row = rows[error.scheme];
    ++row.tensors;
    row.sum_db += error.snr_db;
    row.bytes += error.bytes;
    if (row.worst == nullptr || error.snr_db < row.worst->snr_db) row.worst = &error;
  }
  if (rows.empty()) return;
  fmt::print("{:<14}{:>9}{:>12}{:>12}  {}\n", "scheme", "tensors", "size", "mean SNR", "worst");
  for (const auto& [scheme, row] : rows) {
    fmt::print("{:<14}{:>9}{:>12}{:>9.1f} dB  {} ({:.1f} dB)\n", scheme, row.tensors,
               human_bytes(row.bytes), row.sum_db / row.tensors, row.worst->name,
               row.worst->snr_db);
  }
}

// What calibration gained: the mean over its linears, and those that it could not help.
void print_outputs(const QuantizeResult& result) {
  double rounded = 0;
  double written = 0;
  int count = 0;
  int few = 0;
  for (const TensorError& error : result.tensors) {
    if (!error.output) continue;
    ++count;
    rounded += error.output->rounded;
    written += error.output->written;
    few += error.output->method == "rtn" ? 1 : 0;
  }
  if (count == 0) return;
  fmt::print("output error, mean of {} linears: {:.3e} rounded to the nearest, {:.3e} as written\n",
             count, rounded / count, written / count);
  if (few > 0)
    fmt::print("{} of them were rounded to the nearest: too few tokens came to them\n", few);
}

void write_report(const std::string& path, const QuantizeResult& result) {
  OrderedJson tensors = OrderedJson::array();
  for (const TensorError& error : result.tensors) {
    tensors.push_back({{"name", error.name},
                       {"scheme", error.scheme},
                       {"snr_db", error.snr_db},
                       {"largest_error", error.largest},
                       {"bytes", error.bytes}});
    if (!error.output) continue;
    tensors.back()["calibration"] = {{"method", error.output->method},
                                     {"rows", error.output->rows},
                                     {"output_error_rounded", error.output->rounded},
                                     {"output_error", error.output->written}};
  }
  const OrderedJson report = {{"input_bytes", result.input_bytes},
                              {"bytes", result.bytes},
                              {"files", result.num_files},
                              {"resumed_files", result.num_resumed},
                              {"tensors", std::move(tensors)}};
  write_file(path, report.dump(2) + "\n");
}

DType calibration_dtype(const std::string& word) {
  if (word.empty() || word == "float32") return DType::kF32;
  if (word == "bfloat16") return DType::kBF16;
  fail(Code::kInvalidArgument, "--calibration-dtype must be float32 or bfloat16, got {}", word);
}

// Flags that have no effect are refused.
void check_calibration_flags(const CLI::App& verb, const QuantizeFlags& flags) {
  for (const char* name :
       {"--method", "--calibration-samples", "--calibration-tokens", "--calibration-dtype"}) {
    if (flags.text.file.empty() && verb.count(name) > 0)
      fail(Code::kInvalidArgument, "{} is about calibration; add --calibration FILE", name);
  }
  if (flags.text.samples < 1 || flags.text.tokens < 1)
    fail(Code::kInvalidArgument,
         "--calibration-samples and --calibration-tokens must be at least 1");
}

CalibrationOptions read_calibration(QuantizeFlags& flags, const CLI::App& verb, Device& device) {
  CalibrationOptions options;
  if (!flags.method.empty()) options.method = parse_calibration_method(flags.method);
  options.dtype = calibration_dtype(flags.dtype);
  options.device = &device;
  const int64_t context = TextConfig::load(flags.options.input).max_position_embeddings;
  if (verb.count("--calibration-tokens") == 0)
    flags.text.tokens = std::min(flags.text.tokens, context);
  if (flags.text.tokens > context) {
    fail(Code::kInvalidArgument,
         "--calibration-tokens must be 1 to {} (the model's context), got {}", context,
         flags.text.tokens);
  }
  options.samples = read_calibration_text(flags.text, flags.options.input);
  return options;
}

void run(QuantizeFlags& flags, const CLI::App& verb) {
  flags.options.plan = QuantizationPlan::parse(flags.scheme, flags.mixed);
  check_calibration_flags(verb, flags);
  flags.options.input = find_model(flags.model);
  flags.options.show_progress = true;
  std::unique_ptr<Device> device;
  if (!flags.text.file.empty()) {
    device = make_cpu_device(flags.options.num_threads);
    flags.options.calibration = read_calibration(flags, verb, *device);
  }
  const QuantizeResult result = quantize(flags.options);
  print_errors(result);
  print_outputs(result);
  fmt::print("{}: {} in {} file{} ({:.0f} % of {}){}\n", flags.options.output.string(),
             human_bytes(result.bytes), result.num_files, result.num_files == 1 ? "" : "s",
             100.0 * static_cast<double>(result.bytes) / static_cast<double>(result.input_bytes),
             human_bytes(result.input_bytes),
             result.num_resumed == 0
                 ? ""
                 : fmt::format(", {} of them from an earlier run", result.num_resumed));
  if (!flags.report.empty()) write_report(flags.report, result);
}

}  // namespace

void add_quantize(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("quantize", "write a model folder with quantised weights");
  verb->footer(
      "Schemes: wint8, wint4 (a scale a row; with :g32, :g64 or :g128 one for so many columns; "
      "with :min a minimum\n"
      "beside each scale; with :mse scales of the least error), fp8_block, fp8_channel, "
      "fp8_tensor,\n"
      "w8a8 (wint8 whose inputs are int8 too), w4a8 (4 bits, inputs rotated in blocks of up to "
      "128, "
      ":rN for another\n"
      "size, and int8, KV cache int8), wint2.5 and wint2 (the experts of layers 7 and up; those "
      "before get wint4;\n"
      "slow to write). "
      "Router, norms and\n"
      "embedding stay as they are, and so does the head unless --mixed names it. On a mixture of "
      "experts wint4 means\n"
      "the experts; everything else gets wint8. Tensors are read, rounded and written one by one: "
      "the model need not\n"
      "fit into memory. After an interruption the same command goes on where it was.\n"
      "Examples:\n"
      "  erne quantize --model-path models/default --output models/default-wint8 --scheme wint8\n"
      "  erne quantize --model-path models/default --output models/default-w4 --scheme wint4:g32 "
      "--mixed lm_head=wint8\n"
      "  erne quantize -m baidu/ERNIE-4.5-21B-A3B-PT --output w4 --scheme wint4 \\\n"
      "      --mixed experts@1-6=wint8,lm_head=wint8\n"
      "  erne quantize --model-path models/default --output w4 --scheme wint4:g128 "
      "--calibration text.txt");
  const auto flags = std::make_shared<QuantizeFlags>();
  add_model_flags(*verb, flags->model);
  verb->add_option("-o,--output", flags->options.output, "folder to write")->required();
  verb->add_option("--scheme,--quantization", flags->scheme, "how weights are rounded, see below")
      ->required();
  verb->add_option("--mixed", flags->mixed,
                   "exceptions ROLES[@A-B]=SCHEME,…; roles: attention, mlp, dense, "
                   "shared_experts, experts, lm_head; A-B: layers");
  const char* group = "Calibration";
  verb->add_option("--calibration", flags->text.file,
                   "text to run through the model, to choose codes by: UTF-8, or .jsonl with a "
                   "\"text\" or \"messages\" on each line")
      ->type_name("FILE")
      ->group(group);
  verb->add_option("--method", flags->method,
                   "gptq, awq (input scales, then rounded to the nearest) or awq+gptq")
      ->default_str("gptq")
      ->group(group);
  verb->add_option("--calibration-samples", flags->text.samples,
                   "pieces of the text, evenly spread over it")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--calibration-tokens", flags->text.tokens,
                   "tokens of a piece (2048, or the model's context if that is shorter)")
      ->group(group);
  verb->add_option("--calibration-dtype", flags->dtype, "computes in float32 or bfloat16")
      ->default_str("float32")
      ->group(group);
  verb->add_option("--max-shard-size", flags->options.max_shard_bytes,
                   "largest weight file, e.g. 5GB or 512MB (powers of 1000)")
      ->transform(CLI::AsSizeValue(true))
      ->option_text("SIZE");
  verb->add_option("--threads", flags->options.num_threads, "0: all cores")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--report", flags->report, "write every tensor's error to this JSON file");
  verb->add_flag("--force", flags->options.force, "replace a model folder that exists");
  verb->callback([flags, verb] { run(*flags, *verb); });
}

}  // namespace erne::cli
