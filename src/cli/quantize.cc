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
#include "cli/engine_flags.h"
#include "cli/verbs.h"

namespace erne::cli {
namespace {

struct QuantizeFlags {
  ModelFlags model;
  QuantizeOptions options;
  std::string scheme;
  std::string mixed;
  std::string report;
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

void write_report(const std::string& path, const QuantizeResult& result) {
  OrderedJson tensors = OrderedJson::array();
  for (const TensorError& error : result.tensors) {
    tensors.push_back({{"name", error.name},
                       {"scheme", error.scheme},
                       {"snr_db", error.snr_db},
                       {"largest_error", error.largest},
                       {"bytes", error.bytes}});
  }
  const OrderedJson report = {{"input_bytes", result.input_bytes},
                              {"bytes", result.bytes},
                              {"files", result.num_files},
                              {"resumed_files", result.num_resumed},
                              {"tensors", std::move(tensors)}};
  write_file(path, report.dump(2) + "\n");
}

void run(QuantizeFlags& flags) {
  flags.options.plan = QuantizationPlan::parse(flags.scheme, flags.mixed);
  flags.options.input = find_model(flags.model);
  flags.options.show_progress = true;
  const QuantizeResult result = quantize(flags.options);
  print_errors(result);
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
      "      --mixed experts@1-6=wint8,lm_head=wint8");
  const auto flags = std::make_shared<QuantizeFlags>();
  add_model_flags(*verb, flags->model);
  verb->add_option("-o,--output", flags->options.output, "folder to write")->required();
  verb->add_option("--scheme,--quantization", flags->scheme, "how weights are rounded, see below")
      ->required();
  verb->add_option("--mixed", flags->mixed,
                   "exceptions ROLES[@A-B]=SCHEME,…; roles: attention, mlp, dense, "
                   "shared_experts, experts, lm_head; A-B: layers");
  verb->add_option("--max-shard-size", flags->options.max_shard_bytes,
                   "largest weight file, e.g. 5GB or 512MB (powers of 1000)")
      ->transform(CLI::AsSizeValue(true))
      ->option_text("SIZE");
  verb->add_option("--threads", flags->options.num_threads, "0: all cores")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--report", flags->report, "write every tensor's error to this JSON file");
  verb->add_flag("--force", flags->options.force, "replace a model folder that exists");
  verb->callback([flags] { run(*flags); });
}

}  // namespace erne::cli
