// `erne convert`: GGUF to a Hugging Face folder, and between the layouts of ERNIE checkpoints.
#include "model/convert.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/progress.h"
#include "cli/verbs.h"

namespace erne::cli {
namespace {

// The words have been checked.
CheckpointLayout parse_layout(const std::string& word) {
  for (const CheckpointLayout layout :
       {CheckpointLayout::kEarlyPt, CheckpointLayout::kPaddle, CheckpointLayout::kStacked}) {
    if (layout_name(layout) == word) return layout;
  }
  return CheckpointLayout::kPt;
}

DType parse_dtype(const std::string& word) {
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    if (dtype_name(dtype) == word) return dtype;
  }
  return DType::kBF16;
}

}  // namespace

void add_convert(CLI::App& app) {
  CLI::App* verb = app.add_subcommand(
      "convert", "convert a GGUF file or a model folder to a Hugging Face folder");
  verb->footer(
      "From GGUF: architectures llama (without RoPE scaling and biases), ernie4_5 and "
      "ernie4_5-moe; types F32, F16,\n"
      "BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K. From a folder: every layout of ERNIE "
      "4.5. Layouts "
      "to write:\n"
      "  pt        what transformers loads (default)\n"
      "  early-pt  q, k, v and gate, up fused\n"
      "  paddle    fused, weights [in, out], bfloat16 stored as U16, names begin with ernie.\n"
      "  stacked   the experts of a layer in two tensors (transformers 5 in memory)\n"
      "Examples:\n"
      "  erne convert SmolLM2-135M-Instruct.Q4_1.gguf models/default --name "
      "\"SmolLM2-135M-Instruct\"\n"
      "  erne convert ERNIE-4.5-0.3B-Paddle ERNIE-4.5-0.3B-PT --dtype bfloat16");
  const auto options = std::make_shared<ConvertOptions>();
  const auto layout = std::make_shared<std::string>("pt");
  const auto dtype = std::make_shared<std::string>();
  verb->add_option("input", options->input, "GGUF file or model folder")->required();
  verb->add_option("output", options->output, "folder to write")->required();
  verb->add_option("--layout", *layout, "layout to write")
      ->check(CLI::IsMember({"pt", "early-pt", "paddle", "stacked"}))
      ->option_text("pt|early-pt|paddle|stacked");
  verb->add_option("--dtype", *dtype,
                   "type of the weights; default: bfloat16 from GGUF, as stored from a folder")
      ->check(CLI::IsMember({"bfloat16", "float16", "float32"}))
      ->option_text("bfloat16|float16|float32");
  verb->add_flag("--keep-types", options->keep_types,
                 "from GGUF, layout pt: keep the 8- and 4-bit blocks of linear weights (all but "
                 "Q6_K) instead of turning them into numbers");
  verb->add_option("--max-shard-size", options->max_shard_bytes,
                   "largest weight file, e.g. 5GB or 512MB (powers of 1000)")
      ->transform(CLI::AsSizeValue(true))
      ->option_text("SIZE");
  verb->add_option("--name", options->name, "the model's name, shown wherever a name shows");
  verb->add_option("--temperature", options->temperature,
                   "the model's default temperature, written to generation_config.json")
      ->check(CLI::Range(0.0, 100.0));
  verb->add_option("--top-p", options->top_p,
                   "the model's default top_p, written to generation_config.json")
      ->check(CLI::Range(1e-6, 1.0));
  verb->add_flag("--force", options->force, "replace a model folder that exists");
  verb->callback([options, layout, dtype] {
    options->layout = parse_layout(*layout);
    if (!dtype->empty()) options->dtype = parse_dtype(*dtype);
    options->show_progress = true;
    const ConvertResult result = convert(*options);
    const std::string kept =
        options->keep_types ? fmt::format(", {} of them quantised", result.num_quantized) : "";
    fmt::print("{}: {} tensors{}, {} in {} file{}, {} ({} layout)\n", options->output.string(),
               result.num_tensors, kept, human_bytes(result.bytes), result.num_files,
               result.num_files == 1 ? "" : "s", dtype_name(result.dtype),
               layout_name(options->layout));
  });
}

}  // namespace erne::cli
