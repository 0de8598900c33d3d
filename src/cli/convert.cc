// `erne convert`: GGUF to a Hugging Face folder, and between the layouts of ERNIE checkpoints.
#include "model/convert.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <initializer_list>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/progress.h"
#include "cli/model_loading.h"
#include "cli/verbs.h"
#include "model/pack_model.h"

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
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    if (dtype_name(dtype) == word) return dtype;
  }
  fail(Code::kInvalidArgument,
       "--dtype must be bfloat16, float16 or float32, got '{}' (more words go with --pack)", word);
}

struct ConvertFlags {
  ConvertFlags() { weights.dtype.clear(); }
  ConvertOptions options;
  std::string layout = "pt";
  bool pack = false;
  WeightFlags weights;  // an empty dtype: not given
  int threads = 0;
};

// Flags of one of the two ways that were given for the other.
void refuse_flags(const CLI::App& verb, std::initializer_list<const char*> flags, bool pack) {
  for (const char* flag : flags) {
    if (verb.get_option(flag)->count() == 0) continue;
    fail(Code::kInvalidArgument, "{} {} --pack", flag, pack ? "does not go with" : "belongs to");
  }
}

void run_convert(ConvertFlags& flags) {
  ConvertOptions& options = flags.options;
  options.layout = parse_layout(flags.layout);
  if (!flags.weights.dtype.empty()) options.dtype = parse_dtype(flags.weights.dtype);
  options.show_progress = true;
  const ConvertResult result = convert(options);
  const std::string kept =
      options.keep_types ? fmt::format(", {} of them quantised", result.num_quantized) : "";
  fmt::print("{}: {} tensors{}, {} in {} file{}, {} ({} layout)\n", options.output.string(),
             result.num_tensors, kept, human_bytes(result.bytes), result.num_files,
             result.num_files == 1 ? "" : "s", dtype_name(result.dtype),
             layout_name(options.layout));
}

void run_pack(const ConvertFlags& flags) {
  RunFlags run;
  run.model_path = flags.options.input.string();
  static_cast<WeightFlags&>(run) = flags.weights;
  run.threads = flags.threads;
  PackOptions options;
  options.input = find_model(run);
  options.output = flags.options.output;
  options.source = run.model_path;
  options.force = flags.options.force;
  options.load = to_load_options(run, "auto", *Checkpoint::open(options.input));
  const std::unique_ptr<Device> device = make_run_device(run);
  const PackResult result = pack_model(options, *device);
  fmt::print("{}: {} linears packed for {}, {} ({})\n", options.output.string(), result.num_linears,
             device->info().detail, human_bytes(result.bytes), result.flags);
}

}  // namespace

void add_convert(CLI::App& app) {
  CLI::App* verb = app.add_subcommand(
      "convert", "convert a GGUF file or a model folder to a Hugging Face folder, or pack it");
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
      "With --pack: a folder whose weights lie as the kernels of this processor read them. Loading "
      "maps it: nothing is\n"
      "rounded, packed or copied any more (docs/checkpoints.md). --dtype, --quantization, --mixed "
      "and --act-dtype as in\n"
      "serve; ERNE_ISA=avx2 packs for a processor with AVX2 only.\n"
      "Examples:\n"
      "  erne convert SmolLM2-135M-Instruct.Q4_1.gguf models/default --name "
      "\"SmolLM2-135M-Instruct\"\n"
      "  erne convert ERNIE-4.5-0.3B-Paddle ERNIE-4.5-0.3B-PT --dtype bfloat16\n"
      "  erne convert --pack models/default models/default-packed --dtype w4a16");
  const auto flags = std::make_shared<ConvertFlags>();
  ConvertOptions& options = flags->options;
  verb->add_option("input", options.input, "GGUF file or model folder")->required();
  verb->add_option("output", options.output, "folder to write")->required();
  verb->add_option("--layout", flags->layout, "layout to write")
      ->check(CLI::IsMember({"pt", "early-pt", "paddle", "stacked"}))
      ->option_text("pt|early-pt|paddle|stacked");
  verb->add_flag("--keep-types", options.keep_types,
                 "from GGUF, layout pt: keep the 8- and 4-bit blocks of linear weights (all but "
                 "Q6_K) instead of turning them into numbers");
  verb->add_option("--max-shard-size", options.max_shard_bytes,
                   "largest weight file, e.g. 5GB or 512MB (powers of 1000)")
      ->transform(CLI::AsSizeValue(true))
      ->option_text("SIZE");
  verb->add_option("--name", options.name, "the model's name, shown wherever a name shows");
  verb->add_option("--temperature", options.temperature,
                   "the model's default temperature, written to generation_config.json")
      ->check(CLI::Range(0.0, 100.0));
  verb->add_option("--top-p", options.top_p,
                   "the model's default top_p, written to generation_config.json")
      ->check(CLI::Range(1e-6, 1.0));
  verb->add_flag("--force", options.force, "replace a model folder that exists");
  verb->add_flag("--pack", flags->pack, "write the weights as this processor's kernels read them");
  add_weight_flags(*verb, flags->weights);
  verb->get_option("--dtype")
      ->description(
          "type of the weights: bfloat16, float16, float32 (default: bfloat16 from GGUF, "
          "as stored from a folder); with --pack the words of serve")
      ->default_str("");
  verb->add_option("--threads", flags->threads,
                   "with --pack: compute threads; 0 takes every core once")
      ->check(CLI::NonNegativeNumber);
  verb->callback([verb, flags] {
    if (flags->pack) {
      refuse_flags(
          *verb,
          {"--layout", "--keep-types", "--max-shard-size", "--name", "--temperature", "--top-p"},
          true);
      return run_pack(*flags);
    }
    refuse_flags(*verb, {"--quantization", "--mixed", "--act-dtype", "--threads"}, false);
    run_convert(*flags);
  });
}

}  // namespace erne::cli
