#include "model/quantize.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "model/calibrated_weights.h"
#include "model/checkpoint.h"
#include "model/layout.h"
#include "model/quantized_rows.h"
#include "model/quantized_tensors.h"
#include "model/shards.h"
#include "model/staging_folder.h"
#include "model/stored_codes.h"
#include "model/weight_source.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

// Numbers are written in pieces of about this size.
constexpr int64_t kChunkBytes = int64_t{16} << 20;

// A weight of the output: as it was, or as codes.
struct OutputWeight {
  ExpectedTensor tensor;
  std::optional<WeightScheme> scheme;
  std::shared_ptr<const CodeRows> codes;  // with a scheme
  std::vector<TensorInfo> infos;          // stored tensors: the numbers, or codes, scales, mins

  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const TensorInfo& info : infos) sum += info.bytes();
    return sum;
  }
};

class Quantizer {
 public:
  Quantizer(const Checkpoint& checkpoint, const QuantizeOptions& options)
      : checkpoint_(checkpoint),
        source_(checkpoint_source(checkpoint)),
        options_(options),
        pool_(options.num_threads) {
    if (options.calibration)
      calibrated_.emplace(checkpoint, options.plan, *options.calibration, pool_);
  }

  std::vector<OutputWeight> plan() const;
  void write(const fs::path& path, std::span<const OutputWeight> weights, Progress& progress);
  /// Present with calibration.
  std::optional<CalibratedWeights>& calibrated() { return calibrated_; }
  std::vector<TensorError> take_errors() { return std::move(errors_); }

 private:
  MatrixView numbers(const ExpectedTensor& tensor) const;
  OutputWeight plan_weight(const ExpectedTensor& tensor) const;
  void write_numbers(const OutputWeight& weight, SafetensorsWriter& writer);
  void write_rewritten(const OutputWeight& weight, SafetensorsWriter& writer);
  void write_codes(const OutputWeight& weight, SafetensorsWriter& writer);
  bool write_calibrated(const OutputWeight& weight, SafetensorsWriter& writer);

  const Checkpoint& checkpoint_;
  std::unique_ptr<WeightSource> source_;
  const QuantizeOptions& options_;
  ThreadPool pool_;
  std::optional<CalibratedWeights> calibrated_;
  std::vector<TensorError> errors_;
};

MatrixView Quantizer::numbers(const ExpectedTensor& tensor) const {
  const bool tied_head =
      tensor.name == "lm_head.weight" && checkpoint_.config().tie_word_embeddings;
  return checkpoint_.matrix(tied_head ? "model.embed_tokens.weight" : tensor.name, tensor.rows,
                            tensor.cols);
}

OutputWeight Quantizer::plan_weight(const ExpectedTensor& tensor) const {
  OutputWeight weight{tensor, {}, {}, {}};
  if (tensor.kind == TensorKind::kLinear)
    weight.scheme = options_.plan.scheme(tensor.name, checkpoint_.config().is_moe());
  if (!weight.scheme) {
    const bool rewritten = calibrated_ && calibrated_->rewrites(tensor.name);
    weight.infos = {
        {tensor.name, rewritten ? DType::kF32 : checkpoint_.dtype(tensor.name), tensor.pt_shape()}};
    return weight;
  }
  weight.codes = quantize_rows(numbers(tensor), *weight.scheme);
  weight.infos = code_infos(tensor.name, *weight.codes);
  return weight;
}

std::vector<OutputWeight> Quantizer::plan() const {
  const TextConfig& config = checkpoint_.config();
  std::vector<ExpectedTensor> tensors = expected_tensors(config);
  for (int depth = 0; depth < checkpoint_.num_mtp_layers(); ++depth) {
    for (ExpectedTensor& tensor : expected_mtp_tensors(config, depth))
      tensors.push_back(std::move(tensor));
  }
  if (config.tie_word_embeddings && options_.plan.scheme("lm_head.weight", config.is_moe())) {
    tensors.push_back(
        {"lm_head.weight", TensorKind::kLinear, config.vocab_size, config.hidden_size});
  }
  std::vector<OutputWeight> weights;
  for (const ExpectedTensor& tensor : tensors) weights.push_back(plan_weight(tensor));
  return weights;
}

void Quantizer::write_numbers(const OutputWeight& weight, SafetensorsWriter& writer) {
  const ExpectedTensor& tensor = weight.tensor;
  const DType dtype = weight.infos.front().dtype;
  const auto row_bytes = tensor.cols * static_cast<int64_t>(dtype_bytes(dtype));
  const int64_t step = std::clamp<int64_t>(kChunkBytes / row_bytes, 1, tensor.rows);
  std::vector<std::byte> chunk(static_cast<size_t>(step * row_bytes));
  for (int64_t first = 0; first < tensor.rows; first += step) {
    const int64_t count = std::min(step, tensor.rows - first);
    source_->read_rows(tensor, first, count, dtype, chunk.data());
    writer.write(chunk.data(), static_cast<size_t>(count * row_bytes));
  }
}

// Numbers that AWQ scales were folded into.
void Quantizer::write_rewritten(const OutputWeight& weight, SafetensorsWriter& writer) {
  const std::vector<float>& values =
      calibrated_->of(weight.tensor.name)->overlay.numbers.at(weight.tensor.name);
  writer.write(values.data(), values.size() * sizeof(float));
}

// Codes that were chosen by calibration; false: the tensor has none.
bool Quantizer::write_calibrated(const OutputWeight& weight, SafetensorsWriter& writer) {
  const std::string& name = weight.tensor.name;
  const CalibratedTensors* tensors = calibrated_ ? calibrated_->of(name) : nullptr;
  if (tensors == nullptr) return false;
  const auto found = tensors->linears.find(name);
  if (found == tensors->linears.end()) return false;
  const CalibratedLinear& linear = found->second;
  erne::write_codes(*linear.codes, pool_, writer);
  errors_.push_back(
      {name, weight.scheme->name(), linear.snr_db, linear.largest, weight.bytes(), linear.output});
  return true;
}

// One row's part of the error.
struct RowError {
  double signal = 0;
  double noise = 0;
  double largest = 0;
};

RowError row_error(const CodeFormat& format, const std::vector<float>& numbers,
                   const std::vector<int8_t>& codes, const float* scales, const float* mins) {
  RowError error;
  const size_t group = format.group == 0 ? numbers.size() : static_cast<size_t>(format.group);
  std::vector<float> values(numbers.size());
  for (size_t i = 0; i < numbers.size(); ++i)
    values[i] =
        code_value(format, codes[i], scales[i / group], format.has_min ? mins[i / group] : 0.0F);
  unrotate(format, values);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const float value = values[i];
    const double gap = static_cast<double>(numbers[i]) - static_cast<double>(value);
    error.signal += static_cast<double>(numbers[i]) * static_cast<double>(numbers[i]);
    error.noise += gap * gap;
    error.largest = std::max(error.largest, std::fabs(gap));
  }
  return error;
}

void Quantizer::write_codes(const OutputWeight& weight, SafetensorsWriter& writer) {
  if (write_calibrated(weight, writer)) return;
  const CodeRows& rows = *weight.codes;
  const MatrixView view = numbers(weight.tensor);
  std::vector<RowError> row_errors(static_cast<size_t>(rows.rows()));
  erne::write_codes(
      rows, pool_, writer,
      [&](int64_t r, const std::vector<int8_t>& codes, const float* scales, const float* mins) {
        std::vector<float> row(codes.size());
        read_row_f32(view, r, row.data());
        row_errors[static_cast<size_t>(r)] = row_error(rows.format(), row, codes, scales, mins);
      });
  RowError sum;
  for (const RowError& error : row_errors) {
    sum.signal += error.signal;
    sum.noise += error.noise;
    sum.largest = std::max(sum.largest, error.largest);
  }
  errors_.push_back({weight.tensor.name, weight.scheme->name(),
                     10 * std::log10(sum.signal / sum.noise), sum.largest, weight.bytes()});
}

void Quantizer::write(const fs::path& path, std::span<const OutputWeight> weights,
                      Progress& progress) {
  std::vector<TensorInfo> infos;
  for (const OutputWeight& weight : weights)
    infos.insert(infos.end(), weight.infos.begin(), weight.infos.end());
  SafetensorsWriter writer(path, std::move(infos));
  for (const OutputWeight& weight : weights) {
    if (weight.scheme) {
      write_codes(weight, writer);
    } else if (calibrated_ && calibrated_->rewrites(weight.tensor.name)) {
      write_rewritten(weight, writer);
    } else {
      write_numbers(weight, writer);
    }
    const MatrixView view = numbers(weight.tensor);
    release_pages(static_cast<const std::byte*>(view.data),
                  static_cast<size_t>(view.rows * view.cols) * dtype_bytes(view.dtype));
    progress.add(weight.bytes());
  }
  writer.commit();
}

// What must be equal for the files of an interrupted run to be of use.
std::string run_identity(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  OrderedJson json = {{"plan", options.plan.text()}, {"max_shard_bytes", options.max_shard_bytes}};
  if (options.calibration) json["calibration"] = calibration_identity(*options.calibration);
  for (const Checkpoint::Entry& entry : checkpoint.entries()) {
    if (json.contains(entry.file)) continue;
    const fs::path file = options.input / entry.file;
    json[entry.file] = {fs::file_size(file), fs::last_write_time(file).time_since_epoch().count()};
  }
  return json.dump(2) + "\n";
}

// Makes the folder fit for this run: files of another input or plan go.
void prepare(const fs::path& folder, const std::string& identity) {
  const fs::path path = folder / "run.json";
  std::error_code absent;
  const bool same = fs::is_regular_file(path, absent) && read_file(path) == identity;
  std::vector<fs::path> useless;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const bool half = entry.path().filename().string().find(".tmp-") != std::string::npos;
    if (half || !same) useless.push_back(entry.path());
  }
  for (const fs::path& entry : useless) fs::remove_all(entry);
  if (same) return;
  write_file(path, identity);
}

void write_config(const Checkpoint& checkpoint, const QuantizeOptions& options,
                  std::span<const OutputWeight> weights, const fs::path& folder) {
  const fs::path path = options.input / "config.json";
  OrderedJson json = parse_ordered_json(read_file(path), path.string());
  OrderedJson schemes = OrderedJson::object();
  for (const OutputWeight& weight : weights) {
    if (!weight.scheme) continue;
    const std::string name = weight.scheme->name();
    schemes[name] = schemes.value(name, 0) + 1;
  }
  json["quantization_config"] = {
      {"quant_method", "erne"}, {"plan", options.plan.text()}, {"schemes", std::move(schemes)}};
  // W4A8C8: the cache of such a model is int8 unless --kv-cache-dtype says otherwise.
  const auto& base = options.plan.base();
  if (base && base->method == WeightScheme::Method::kW4a8)
    json["quantization_config"]["kv_cache_quant_type"] = "int8";
  if (options.calibration)
    json["quantization_config"]["calibration"] = calibration_name(options.calibration->method);
  const TextConfig& config = checkpoint.config();
  json["architectures"] = {config.is_moe() ? "Ernie4_5_MoeForCausalLM" : "Ernie4_5ForCausalLM"};
  json["model_type"] = config.is_moe() ? "ernie4_5_moe" : "ernie4_5";
  write_file(folder / "config.json", json.dump(2) + "\n");
}

void check_input(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  std::error_code error;
  if (fs::equivalent(options.input, options.output, error)) {
    fail(Code::kInvalidArgument, "input and output are the same folder: {}",
         options.input.string());
  }
  if (options.plan.empty()) {
    fail(Code::kInvalidArgument, "the plan quantises nothing; give a scheme such as wint8");
  }
  if (!checkpoint.config().quant_method.empty()) {
    fail(Code::kInvalidArgument,
         "{} is quantised already; start from the unquantised model, or turn it into numbers with "
         "`erne convert`",
         options.input.string());
  }
  check_plan(options.plan, checkpoint.config());
  if (!checkpoint.kv_absmax().empty())
    log::warn("{}: the static scales of its KV cache are not kept", options.input.string());
  if (options.max_shard_bytes == 0)
    fail(Code::kInvalidArgument, "max_shard_bytes is 0; at least 1 is valid");
}

}  // namespace

QuantizeResult quantize(const QuantizeOptions& options) {
  const auto checkpoint = Checkpoint::open(options.input);
  checkpoint->refuse_packed("quantised");
  check_input(*checkpoint, options);
  Quantizer quantizer(*checkpoint, options);
  const std::vector<OutputWeight> weights = quantizer.plan();
  StagingFolder staging(options.output, options.force, StagingFolder::Unfinished::kKeep);
  prepare(staging.path(), run_identity(*checkpoint, options));

  QuantizeResult result;
  for (const Checkpoint::Entry& entry : checkpoint->entries()) result.input_bytes += entry.bytes;
  std::vector<uint64_t> bytes;
  for (const OutputWeight& weight : weights) {
    bytes.push_back(weight.bytes());
    result.bytes += weight.bytes();
  }
  check_free_space(staging.path(), result.bytes);
  Progress progress(options.calibration ? "calibrating" : "quantising", result.bytes,
                    ProgressUnit::kBytes, options.show_progress);
  const std::vector<Shard> shards = cut_shards(bytes, options.max_shard_bytes);
  result.num_files = static_cast<int>(shards.size());
  OrderedJson weight_map = OrderedJson::object();
  const auto weights_of = [&](const Shard& shard) {
    return std::span(weights).subspan(shard.begin, shard.end - shard.begin);
  };
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    for (const OutputWeight& weight : weights_of(shards[i])) {
      for (const TensorInfo& info : weight.infos) weight_map[info.name] = name;
      if (quantizer.calibrated())
        quantizer.calibrated()->expect({weight.tensor, weight.scheme.has_value()},
                                       staging.path() / name);
    }
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    const std::span<const OutputWeight> shard = weights_of(shards[i]);
    std::error_code absent;
    if (fs::is_regular_file(staging.path() / name, absent)) {  // an earlier run finished it
      ++result.num_resumed;
      for (const OutputWeight& weight : shard) progress.add(weight.bytes());
      continue;
    }
    quantizer.write(staging.path() / name, shard, progress);
    if (options.file_done) options.file_done(name);
  }
  if (shards.size() > 1) write_shard_index(staging.path(), weight_map, result.bytes);
  copy_companions(options.input, staging.path());
  write_config(*checkpoint, options, weights, staging.path());
  fs::remove(staging.path() / "run.json");
  staging.commit();
  result.tensors = quantizer.take_errors();
  return result;
}

}  // namespace erne
