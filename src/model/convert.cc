// One conversion: check the input, plan the output tensors, stream them into a staging folder,
// rename it.
#include "model/convert.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "model/config_keys.h"
#include "model/gguf_config.h"
#include "model/gguf_tokenizer.h"
#include "model/layout_plan.h"
#include "model/shards.h"
#include "model/staging_folder.h"
#include "model/stored_codes.h"
#include "model/weight_source.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

// Rows are read and written in pieces of about this size; a transposed tensor is held whole, twice.
constexpr int64_t kChunkBytes = int64_t{4} << 20;

// A planned tensor with the type it gets.
struct OutputTensor {
  PlannedTensor plan;
  DType value_dtype;  // float32, float16 or bfloat16 (float64 where a folder stores that)
  TensorInfo info;    // as stored: Paddle keeps bfloat16 bits under U16
  KeptCodes codes = {};

  // What the file gets for it.
  std::vector<TensorInfo> infos() const {
    return codes.rows ? code_infos(info.name, *codes.rows) : std::vector{info};
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const TensorInfo& stored : infos()) sum += stored.bytes();
    return sum;
  }
};

DType output_dtype(const PlannedTensor& plan, const WeightSource& source,
                   std::optional<DType> wanted) {
  const bool precise = plan.kind() == TensorKind::kRouter || plan.kind() == TensorKind::kCorrection;
  if (precise) return DType::kF32;
  if (wanted) return *wanted;
  const DType first = source.dtype(plan.parts.front());
  const bool mixed =
      std::any_of(plan.parts.begin(), plan.parts.end(),
                  [&](const ExpectedTensor& part) { return source.dtype(part) != first; });
  return mixed ? DType::kF32 : first;
}

std::vector<OutputTensor> plan_output(const TextConfig& config, int num_mtp_layers,
                                      const WeightSource& source, const ConvertOptions& options,
                                      std::optional<DType> dtype) {
  std::vector<OutputTensor> output;
  for (PlannedTensor& plan : plan_layout(config, options.layout, num_mtp_layers)) {
    const DType value = output_dtype(plan, source, dtype);
    const bool paddle_bits = value == DType::kBF16 && options.layout == CheckpointLayout::kPaddle;
    TensorInfo info{plan.name, paddle_bits ? DType::kU16 : value, plan.shape};
    output.push_back({std::move(plan), value, std::move(info)});
  }
  return output;
}

// Lets the tensors of `output` keep the source's codes. The head of a tied model gets codes of its
// own, its embedding stays numbers.
void keep_codes(std::vector<OutputTensor>& output, const TextConfig& config,
                const WeightSource& source, DType dtype) {
  for (OutputTensor& tensor : output) tensor.codes = source.codes(tensor.plan.parts.front());
  if (!config.tie_word_embeddings) return;
  const ExpectedTensor head{"lm_head.weight", TensorKind::kLinear, config.vocab_size,
                            config.hidden_size};
  KeptCodes codes = source.codes(head);
  if (codes.rows == nullptr) return;
  output.push_back({{head.name, head.pt_shape(), false, {head}},
                    dtype,
                    {head.name, dtype, head.pt_shape()},
                    std::move(codes)});
}

using Sink = std::function<void(const std::byte* data, size_t size)>;

void write_rows(const OutputTensor& tensor, const WeightSource& source, const Sink& sink) {
  const auto element = static_cast<int64_t>(dtype_bytes(tensor.value_dtype));
  std::vector<std::byte> chunk;
  for (const ExpectedTensor& part : tensor.plan.parts) {
    const int64_t rows_at_once =
        std::clamp<int64_t>(kChunkBytes / (part.cols * element), 1, part.rows);
    for (int64_t row = 0; row < part.rows; row += rows_at_once) {
      const int64_t rows = std::min(rows_at_once, part.rows - row);
      chunk.resize(static_cast<size_t>(rows * part.cols * element));
      source.read_rows(part, row, rows, tensor.value_dtype, chunk.data());
      sink(chunk.data(), chunk.size());
    }
  }
}

// dst[c, r] = src[r, c], in tiles that stay in the cache.
template <typename T>
void transpose(const std::byte* src, std::byte* dst, size_t rows, size_t cols) {
  constexpr size_t kTile = 64;
  for (size_t r0 = 0; r0 < rows; r0 += kTile) {
    for (size_t c0 = 0; c0 < cols; c0 += kTile) {
      for (size_t c = c0; c < std::min(c0 + kTile, cols); ++c) {
        for (size_t r = r0; r < std::min(r0 + kTile, rows); ++r) {
          std::memcpy(dst + (c * rows + r) * sizeof(T), src + (r * cols + c) * sizeof(T),
                      sizeof(T));
        }
      }
    }
  }
}

void write_transposed(const OutputTensor& tensor, const WeightSource& source, const Sink& sink) {
  std::vector<std::byte> dense;
  dense.reserve(tensor.info.bytes());
  write_rows(tensor, source, [&](const std::byte* data, size_t size) {
    dense.insert(dense.end(), data, data + size);
  });
  std::vector<std::byte> turned(dense.size());
  const auto cols = static_cast<size_t>(tensor.info.shape[0]);
  const auto rows = static_cast<size_t>(tensor.info.shape[1]);
  switch (dtype_bytes(tensor.value_dtype)) {
    case 2:
      transpose<uint16_t>(dense.data(), turned.data(), rows, cols);
      break;
    case 4:
      transpose<uint32_t>(dense.data(), turned.data(), rows, cols);
      break;
    default:
      transpose<uint64_t>(dense.data(), turned.data(), rows, cols);
  }
  sink(turned.data(), turned.size());
}

std::vector<TensorInfo> infos_of(std::span<const OutputTensor> tensors) {
  std::vector<TensorInfo> infos;
  for (const OutputTensor& tensor : tensors) {
    for (TensorInfo& info : tensor.infos()) infos.push_back(std::move(info));
  }
  return infos;
}

void write_tensor(const OutputTensor& tensor, const WeightSource& source, SafetensorsWriter& writer,
                  Progress& progress) {
  if (tensor.codes.rows) {
    ThreadPool pool(1);  // taking blocks apart is faster than a disk
    write_codes(*tensor.codes.rows, pool, writer);
    progress.add(tensor.bytes());
    return;
  }
  const Sink sink = [&](const std::byte* data, size_t size) {
    writer.write(data, size);
    progress.add(size);
  };
  tensor.plan.transposed ? write_transposed(tensor, source, sink)
                         : write_rows(tensor, source, sink);
}

ConvertResult write_weights(const fs::path& folder, const std::vector<OutputTensor>& tensors,
                            const WeightSource& source, const ConvertOptions& options) {
  std::vector<uint64_t> bytes;
  for (const OutputTensor& tensor : tensors) bytes.push_back(tensor.bytes());
  const std::vector<Shard> shards = cut_shards(bytes, options.max_shard_bytes);
  ConvertResult result;
  result.num_files = static_cast<int>(shards.size());
  result.num_tensors = static_cast<int64_t>(tensors.size());
  result.num_quantized = std::count_if(tensors.begin(), tensors.end(), [](const OutputTensor& t) {
    return t.codes.rows != nullptr;
  });
  for (const uint64_t size : bytes) result.bytes += size;
  check_free_space(folder, result.bytes);
  Progress progress("converting weights", result.bytes, ProgressUnit::kBytes,
                    options.show_progress);
  OrderedJson weight_map = OrderedJson::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    const std::span<const OutputTensor> files_tensors =
        std::span(tensors).subspan(shards[i].begin, shards[i].end - shards[i].begin);
    const std::vector<TensorInfo> infos = infos_of(files_tensors);
    for (const TensorInfo& info : infos) weight_map[info.name] = name;
    SafetensorsWriter writer(folder / name, infos);
    for (const OutputTensor& tensor : files_tensors) write_tensor(tensor, source, writer, progress);
    writer.commit();
  }
  if (shards.size() > 1) write_shard_index(folder, weight_map, result.bytes);
  return result;
}

void write_json(const fs::path& path, const OrderedJson& json) {
  write_file(path, json.dump(2) + "\n");
}

// config.json for the output: the input's keys, with what the conversion changes.
void adapt_config(OrderedJson& json, const TextConfig& config, const ConvertOptions& options) {
  if (!options.name.empty()) json["_name_or_path"] = options.name;
  json.erase("quantization_config");
  if (options.dtype) {
    json.erase("dtype");
    json["torch_dtype"] = dtype_name(*options.dtype);
  }
  if (options.layout != CheckpointLayout::kPt && options.layout != CheckpointLayout::kStacked)
    return;
  // Names that transformers knows, whatever the input called itself.
  json["architectures"] = {config.is_moe() ? "Ernie4_5_MoeForCausalLM" : "Ernie4_5ForCausalLM"};
  json["model_type"] = config.is_moe() ? "ernie4_5_moe" : "ernie4_5";
  // Lists per modality: the text model's value stands first.
  for (const char* key : {"moe_num_experts", "moe_intermediate_size", "moe_layer_start_index",
                          "moe_layer_end_index", "moe_num_shared_experts", "moe_k"}) {
    if (json.contains(key) && json[key].is_array()) json[key] = OrderedJson(json[key].front());
  }
}

void add_sampling(OrderedJson& generation, const ConvertOptions& options) {
  if (options.temperature || options.top_p) generation["do_sample"] = true;
  if (options.temperature) generation["temperature"] = *options.temperature;
  if (options.top_p) generation["top_p"] = *options.top_p;
}

// Says in config.json how many weights of each type hold codes, if any do.
void add_quantization(OrderedJson& json, std::span<const OutputTensor> output) {
  OrderedJson schemes = OrderedJson::object();
  for (const OutputTensor& tensor : output) {
    if (tensor.codes.rows) schemes[tensor.codes.type] = schemes.value(tensor.codes.type, 0) + 1;
  }
  if (schemes.empty()) return;
  json["quantization_config"] = {
      {"quant_method", "erne"}, {"plan", "as in the GGUF file"}, {"schemes", std::move(schemes)}};
}

ConvertResult convert_folder(ConvertOptions options) {
  if (options.keep_types) {
    fail(Code::kInvalidArgument, "{} is a folder; only the types of GGUF files can be kept",
         options.input.string());
  }
  const auto checkpoint = Checkpoint::open(options.input);
  checkpoint->refuse_packed("converted");
  // Codes become numbers of the type that the model was quantised from.
  if (!checkpoint->config().quant_method.empty() && !options.dtype)
    options.dtype = checkpoint->config().dtype;
  std::error_code error;
  if (fs::equivalent(options.input, options.output, error)) {
    fail(Code::kInvalidArgument, "input and output are the same folder: {}",
         options.input.string());
  }
  StagingFolder staging(options.output, options.force);
  const TextConfig& config = checkpoint->config();
  const fs::path config_path = options.input / "config.json";
  OrderedJson json = parse_ordered_json(read_file(config_path), config_path.string());
  adapt_config(json, config, options);
  write_json(staging.path() / "config.json", json);
  copy_companions(options.input, staging.path());
  if (options.temperature || options.top_p) {
    const fs::path path = staging.path() / "generation_config.json";
    OrderedJson generation = fs::exists(path) ? parse_ordered_json(read_file(path), path.string())
                                              : OrderedJson::object();
    add_sampling(generation, options);
    write_json(path, generation);
  }
  const auto source = checkpoint_source(*checkpoint);
  const auto output =
      plan_output(config, checkpoint->num_mtp_layers(), *source, options, options.dtype);
  ConvertResult result = write_weights(staging.path(), output, *source, options);
  result.dtype = output.front().value_dtype;
  staging.commit();
  return result;
}

ConvertResult convert_gguf(const ConvertOptions& options) {
  if (options.keep_types && options.layout != CheckpointLayout::kPt) {
    fail(Code::kInvalidArgument, "types can be kept in layout pt only, not in {}",
         layout_name(options.layout));
  }
  const GgufFile file = GgufFile::open(options.input);
  const DType dtype = options.dtype.value_or(DType::kBF16);
  OrderedJson json = gguf_config(file, options.name);
  json["torch_dtype"] = dtype_name(dtype);
  const TextConfig config = TextConfig::parse(dump_json(json), file.what());
  const auto source = gguf_source(file, config);
  const GgufTokenizer tokenizer = gguf_tokenizer(file);
  if (const size_t tokens = tokenizer.tokenizer["model"]["vocab"].size();
      tokens > static_cast<size_t>(config.vocab_size)) {
    fail(Code::kCorrupt, "{}: {} tokens but {} rows in token_embd.weight", file.what(), tokens,
         config.vocab_size);
  }
  auto output = plan_output(config, 0, *source, options, dtype);
  if (options.keep_types) keep_codes(output, config, *source, dtype);
  add_quantization(json, output);
  StagingFolder staging(options.output, options.force);
  write_json(staging.path() / "config.json", json);
  OrderedJson generation = gguf_generation_config(file);
  add_sampling(generation, options);
  write_json(staging.path() / "generation_config.json", generation);
  write_json(staging.path() / "tokenizer_config.json", tokenizer.config);
  write_json(staging.path() / "tokenizer.json", tokenizer.tokenizer);
  ConvertResult result = write_weights(staging.path(), output, *source, options);
  result.dtype = dtype;
  staging.commit();
  return result;
}

}  // namespace

ConvertResult convert(const ConvertOptions& options) {
  if (options.max_shard_bytes == 0)
    fail(Code::kInvalidArgument, "max_shard_bytes is 0; at least 1 is valid");
  if (!fs::exists(options.input))
    fail(Code::kNotFound, "{} does not exist", options.input.string());
  std::error_code ignored;  // what cannot be read is refused below
  if (fs::is_directory(options.input, ignored)) return convert_folder(options);
  if (GgufFile::looks_like(options.input)) return convert_gguf(options);
  fail(Code::kInvalidArgument, "{} is neither a model folder nor a GGUF file",
       options.input.string());
}

}  // namespace erne
