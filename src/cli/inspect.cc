// `erne inspect`: what a checkpoint is and what it will need, read from the headers only: no weight
// is touched.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/engine_flags.h"
#include "cli/inspect_plan.h"
#include "cli/verbs.h"
#include "model/checkpoint.h"
#include "model/layout.h"
#include "model/memory_plan.h"
#include "model/packed_weights.h"
#include "model/quantization.h"

namespace erne::cli {
namespace {

struct InspectFlags {
  ModelFlags model;
  std::string config;
  std::string gpu_memory;
  bool json = false;
  bool tensors = false;
};

// What the weights may become when they are loaded: a word, the type of what stays numbers, and
// the rule for the linears.
struct Precision {
  const char* name;
  DType dtype;
  const char* scheme;
};
constexpr std::array<Precision, 4> kPrecisions{{{"float32", DType::kF32, "none"},
                                                {"bfloat16", DType::kBF16, "none"},
                                                {"wint8", DType::kBF16, "wint8"},
                                                {"wint4", DType::kBF16, "wint4"}}};

// Everything that both outputs show.
struct Summary {
  const Checkpoint& checkpoint;
  std::vector<Checkpoint::Entry> entries;
  std::map<std::string, int64_t> dtypes;  // tensors of each type on disk
  std::vector<std::string> files;
  uint64_t stored_bytes = 0;
  int64_t mtp_parameters = 0;
  std::vector<int64_t> contexts;

  explicit Summary(const Checkpoint& source) : checkpoint(source), entries(source.entries()) {
    for (const Checkpoint::Entry& entry : entries) {
      ++dtypes[std::string(dtype_name(entry.dtype))];
      stored_bytes += entry.bytes;
      if (std::find(files.begin(), files.end(), entry.file) == files.end())
        files.push_back(entry.file);
    }
    const TextConfig& config = checkpoint.config();
    for (int depth = 0; depth < checkpoint.num_mtp_layers(); ++depth) {
      for (const ExpectedTensor& tensor : expected_mtp_tensors(config, depth)) {
        mtp_parameters += tensor.rows * tensor.cols;
      }
    }
    for (const int64_t length : {4096, 8192, 32768, 131072}) {
      if (length < config.max_position_embeddings) contexts.push_back(length);
    }
    contexts.push_back(config.max_position_embeddings);
  }

  // The router stays float32; scales of quantised rows are bfloat16.
  uint64_t weight_bytes(const Precision& precision) const {
    const TextConfig& config = checkpoint.config();
    const QuantizationPlan plan = QuantizationPlan::parse(precision.scheme, "");
    uint64_t bytes = 0;
    for (const ExpectedTensor& tensor : expected_tensors(config)) {
      const auto count = static_cast<uint64_t>(tensor.rows * tensor.cols);
      const bool router =
          tensor.kind == TensorKind::kRouter || tensor.kind == TensorKind::kCorrection;
      const auto scheme = plan.scheme(tensor.name, config.is_moe());
      if (router) {
        bytes += count * 4;
      } else if (scheme && scheme->method == WeightScheme::Method::kInt4) {
        bytes += count / 2 + static_cast<uint64_t>(tensor.rows) * 2;
      } else if (scheme) {
        bytes += count + static_cast<uint64_t>(tensor.rows) * 2;
      } else {
        bytes += count * dtype_bytes(precision.dtype);
      }
    }
    return bytes;
  }
  // Keys and values of every layer.
  uint64_t kv_bytes(DType dtype, int64_t tokens) const {
    const TextConfig& config = checkpoint.config();
    return static_cast<uint64_t>(2 * config.num_layers * config.kv_size() * tokens) *
           dtype_bytes(dtype);
  }
};

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

OrderedJson to_json(const Summary& summary, bool with_tensors) {
  const TextConfig& config = summary.checkpoint.config();
  OrderedJson json;
  json["name"] = config.name;
  json["folder"] = summary.checkpoint.folder().string();
  json["architecture"] = config.architecture;
  json["model_type"] = config.model_type;
  json["layout"] = layout_name(summary.checkpoint.layout());
  if (!config.quant_method.empty()) json["quant_method"] = config.quant_method;
  if (const PackedWeights* packed = summary.checkpoint.packed()) {
    json["packed"] = {{"flags", packed->flags},
                      {"device", packed->device},
                      {"source", packed->source},
                      {"linears", packed->linears.size()},
                      {"bytes", packed->data.size()}};
  }
  json["num_hidden_layers"] = config.num_layers;
  json["hidden_size"] = config.hidden_size;
  json["num_attention_heads"] = config.num_heads;
  json["num_key_value_heads"] = config.kv_heads;
  json["head_dim"] = config.head_dim;
  json["intermediate_size"] = config.intermediate_size;
  json["vocab_size"] = config.vocab_size;
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  json["use_bias"] = config.use_bias;
  json["max_position_embeddings"] = config.max_position_embeddings;
  json["rope_theta"] = config.rope_theta;
  if (config.is_moe()) {
    json["moe"] = {{"num_experts", config.num_experts},
                   {"experts_per_token", config.moe_top_k},
                   {"num_shared_experts", config.num_shared_experts},
                   {"intermediate_size", config.moe_intermediate_size},
                   {"first_layer", config.moe_layer_start},
                   {"last_layer", config.moe_layer_end},
                   {"layer_interval", config.moe_layer_interval}};
  }
  json["parameters"] = {{"total", config.num_parameters()},
                        {"active_per_token", config.num_active_parameters()},
                        {"mtp", summary.mtp_parameters}};
  json["mtp_layers"] = {{"config", config.num_nextn_predict_layers},
                        {"stored", summary.checkpoint.num_mtp_layers()}};
  json["stored"] = {{"bytes", summary.stored_bytes},
                    {"tensors", summary.entries.size()},
                    {"files", summary.files},
                    {"tensors_by_dtype", summary.dtypes}};
  OrderedJson memory = OrderedJson::object();
  for (const Precision& precision : kPrecisions) {
    OrderedJson kv = OrderedJson::array();
    for (const int64_t tokens : summary.contexts) {
      kv.push_back({{"tokens", tokens}, {"bytes", summary.kv_bytes(precision.dtype, tokens)}});
    }
    memory[precision.name] = {{"weight_bytes", summary.weight_bytes(precision)},
                              {"kv_bytes_per_token", summary.kv_bytes(precision.dtype, 1)},
                              {"kv_at_context", kv}};
  }
  json["memory"] = std::move(memory);
  if (!with_tensors) return json;
  OrderedJson tensors = OrderedJson::array();
  for (const Checkpoint::Entry& entry : summary.entries) {
    tensors.push_back({{"name", entry.name},
                       {"dtype", dtype_name(entry.dtype)},
                       {"shape", entry.shape},
                       {"bytes", entry.bytes},
                       {"file", entry.file}});
  }
  json["tensors"] = std::move(tensors);
  return json;
}

std::string count_text(int64_t parameters) {
  const auto value = static_cast<double>(parameters);
  if (parameters >= 1'000'000'000) return fmt::format("{:.3f} B", value * 1e-9);
  if (parameters >= 1'000'000) return fmt::format("{:.1f} M", value * 1e-6);
  return fmt::format("{}", parameters);
}

void print_memory(const Summary& summary) {
  const auto row = [&](const std::string& label, auto bytes) {
    fmt::print("  {:<24}", label);
    for (const Precision& precision : kPrecisions)
      fmt::print("{:>12}", human_bytes(bytes(precision)));
    fmt::print("\n");
  };
  fmt::print("\n{:<26}", "memory needed");
  for (const Precision& precision : kPrecisions) fmt::print("{:>12}", precision.name);
  fmt::print("\n");
  row("weights", [&](const Precision& p) { return summary.weight_bytes(p); });
  row("KV cache per token", [&](const Precision& p) { return summary.kv_bytes(p.dtype, 1); });
  for (const int64_t tokens : summary.contexts) {
    row(fmt::format("KV, {} tokens", tokens),
        [&](const Precision& p) { return summary.kv_bytes(p.dtype, tokens); });
  }
  row(fmt::format("both, {} tokens", summary.contexts.back()), [&](const Precision& p) {
    return summary.weight_bytes(p) + summary.kv_bytes(p.dtype, summary.contexts.back());
  });
}

void print_text(const Summary& summary, bool with_tensors) {
  const Checkpoint& checkpoint = summary.checkpoint;
  const TextConfig& c = checkpoint.config();
  fmt::print("{}\n", c.name.empty() ? checkpoint.folder().filename().string() : c.name);
  fmt::print("  folder        {}\n", checkpoint.folder().string());
  fmt::print("  architecture  {} ({}), {}\n", c.architecture, c.model_type,
             c.is_moe() ? "mixture of experts" : "dense");
  fmt::print("  shape         {} layers, hidden {}, intermediate {}, vocabulary {}{}\n",
             c.num_layers, c.hidden_size, c.intermediate_size, c.vocab_size,
             c.tie_word_embeddings ? " (tied)" : "");
  fmt::print("  attention     {} heads, {} key/value heads, head_dim {}, rope_theta {}{}\n",
             c.num_heads, c.kv_heads, c.head_dim, c.rope_theta, c.use_bias ? ", biases" : "");
  if (c.is_moe()) {
    fmt::print(
        "  experts       {} of width {}, {} per token, {} shared; layers {} to {}, every {}\n",
        c.num_experts, c.moe_intermediate_size, c.moe_top_k, c.num_shared_experts,
        c.moe_layer_start, c.moe_layer_end, c.moe_layer_interval);
  }
  fmt::print("  context       {} tokens\n", c.max_position_embeddings);
  fmt::print("  parameters    {} in total, {} used per token\n", count_text(c.num_parameters()),
             count_text(c.num_active_parameters()));
  if (checkpoint.num_mtp_layers() > 0) {
    fmt::print("  MTP           {} layer(s) stored, {} parameters more\n",
               checkpoint.num_mtp_layers(), count_text(summary.mtp_parameters));
  } else if (c.num_nextn_predict_layers > 0) {
    fmt::print("  MTP           none stored, though config.json announces {}\n",
               c.num_nextn_predict_layers);
  } else {
    fmt::print("  MTP           none\n");
  }
  std::string dtypes;
  for (const auto& [dtype, count] : summary.dtypes) {
    dtypes += fmt::format("{}{} {}", dtypes.empty() ? "" : ", ", count, dtype);
  }
  fmt::print("  stored        {} layout, {} in {} file(s), {} tensors ({})\n",
             layout_name(checkpoint.layout()), human_bytes(summary.stored_bytes),
             summary.files.size(), summary.entries.size(), dtypes);
  if (const PackedWeights* packed = checkpoint.packed()) {
    fmt::print("  packed        {} linears, {}, {}\n                for {}, from {}\n",
               packed->linears.size(), human_bytes(packed->data.size()), packed->flags,
               packed->device, packed->source);
  }
  if (!c.quant_method.empty())
    fmt::print("  quantised     by {} (`memory needed` below is that of the unquantised model)\n",
               c.quant_method);
  print_memory(summary);
  if (!with_tensors) return;
  size_t width = 4;
  for (const Checkpoint::Entry& entry : summary.entries) width = std::max(width, entry.name.size());
  fmt::print("\n{:<{}}  {:<9}{:<18}{:>10}  {}\n", "tensor", width, "dtype", "shape", "size",
             "file");
  for (const Checkpoint::Entry& entry : summary.entries) {
    fmt::print("{:<{}}  {:<9}{:<18}{:>10}  {}\n", entry.name, width, dtype_name(entry.dtype),
               shape_text(entry.shape), human_bytes(entry.bytes), entry.file);
  }
}

// --config needs no weights, so it takes the place of a model.
void run_plan(const InspectFlags& flags) {
  if (!flags.model.model_path.empty() || flags.tensors) {
    fail(Code::kInvalidArgument,
         "--config plans from a config.json alone: leave --model-path and --tensors out");
  }
  std::optional<uint64_t> card_bytes;
  if (!flags.gpu_memory.empty()) card_bytes = parse_bytes(flags.gpu_memory);
  print_memory_plan(flags.config, card_bytes, flags.json ? PlanFormat::kJson : PlanFormat::kText);
}

void run_model(const InspectFlags& flags) {
  if (!flags.gpu_memory.empty())
    fail(Code::kInvalidArgument, "--gpu-memory is about the plan of --config: give that too");
  const auto checkpoint = Checkpoint::open(find_model(flags.model));
  const Summary summary(*checkpoint);
  if (flags.json) {
    fmt::print(
        "{}\n",
        to_json(summary, flags.tensors).dump(2, ' ', false, OrderedJson::error_handler_t::replace));
  } else {
    print_text(summary, flags.tensors);
  }
}

}  // namespace

void add_inspect(CLI::App& app) {
  CLI::App* verb =
      app.add_subcommand("inspect", "show what a checkpoint is and how much memory it needs");
  verb->footer(
      "Checks every header, size and shape of the checkpoint on the way; reads no weights.\n"
      "Examples:\n"
      "  erne inspect --model-path models/default\n"
      "  erne inspect --model-path models/default --tensors\n"
      "  erne inspect --model-path models/default --json\n"
      "  erne inspect --config ERNIE-4.5-21B-A3B-PT/config.json --gpu-memory 139GiB");
  const auto flags = std::make_shared<InspectFlags>();
  add_model_flags(*verb, flags->model);
  verb->add_option(
          "--config", flags->config,
          "a config.json, or a folder with one, instead of a model: plan weights, KV cache "
          "and requests in every precision; no weights are needed")
      ->type_name("FILE|DIR");
  verb->add_option("--gpu-memory", flags->gpu_memory,
                   "with --config: what the card has, e.g. 139GiB or 80GB")
      ->type_name("SIZE");
  verb->add_flag("--json", flags->json, "one JSON object instead of text");
  verb->add_flag("--tensors", flags->tensors, "list every tensor");
  verb->callback([flags] {
    flags->config.empty() ? run_model(*flags) : run_plan(*flags);
    if (std::fflush(stdout) != 0) fail(Code::kIo, "cannot write to standard output");
  });
}

}  // namespace erne::cli
