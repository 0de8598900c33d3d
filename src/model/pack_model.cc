#include "model/pack_model.h"

#include <algorithm>
#include <map>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "model/checkpoint.h"
#include "model/kv_scales.h"
#include "model/layout.h"
#include "model/packed_weights.h"
#include "model/shards.h"
#include "model/staging_folder.h"
#include "model/text_weights.h"
#include "model/weight_source.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

// Writes of this size, at multiples of it, leave the file in the page cache in huge pages where the
// file system can; also the rows of an ordinary tensor that are held at a time.
constexpr size_t kPieceBytes = size_t{8} << 20;

// Collects what is written into whole pieces.
class PieceWriter {
 public:
  explicit PieceWriter(SafetensorsWriter& file) : file_(file) { piece_.reserve(kPieceBytes); }

  void write(const void* data, size_t size) {
    const auto* bytes = static_cast<const std::byte*>(data);
    while (size > 0) {
      const size_t count = std::min(size, kPieceBytes - piece_.size());
      piece_.insert(piece_.end(), bytes, bytes + count);
      bytes += count;
      size -= count;
      if (piece_.size() == kPieceBytes) flush();
    }
  }
  void pad(uint64_t size) {
    const std::vector<std::byte> zeros(static_cast<size_t>(size));
    write(zeros.data(), zeros.size());
  }
  void flush() {
    file_.write(piece_.data(), piece_.size());
    piece_.clear();
  }

 private:
  SafetensorsWriter& file_;
  std::vector<std::byte> piece_;
};

// Everything that is no linear, in its own type (the router in float32); the embedding last, so
// that the packed tensors stand side by side.
std::vector<ExpectedTensor> other_tensors(const Checkpoint& checkpoint) {
  std::vector<ExpectedTensor> tensors = expected_tensors(checkpoint.config());
  std::erase_if(tensors, [&](const ExpectedTensor& tensor) {
    return tensor.kind == TensorKind::kLinear || !checkpoint.has(tensor.name);
  });
  std::stable_partition(tensors.begin(), tensors.end(), [](const ExpectedTensor& tensor) {
    return tensor.kind != TensorKind::kEmbedding;
  });
  return tensors;
}

DType stored_dtype(const ExpectedTensor& tensor, const Checkpoint& checkpoint) {
  const bool precise = tensor.kind == TensorKind::kRouter || tensor.kind == TensorKind::kCorrection;
  return precise ? DType::kF32 : checkpoint.dtype(tensor.name);
}

std::string kv_scale_name(size_t layer, std::string_view part) {
  return fmt::format("model.layers.{}.self_attn.{}_matmul.activation_scale", layer, part);
}

// The flags that make the same folder again.
std::string flags_text(const LoadOptions& load) {
  std::string text = fmt::format("--dtype {}", dtype_name(load.dtype));
  const std::string plan = load.quantization.text();
  const size_t end = plan.find(',');
  if (!load.quantization.empty()) text += " --quantization " + plan.substr(0, end);
  if (end != std::string::npos) {
    std::string mixed = plan.substr(end + 1);
    std::erase(mixed, ' ');
    text += " --mixed " + mixed;
  }
  if (load.inputs == Inputs::kInt8) text += " --act-dtype int8";
  return text;
}

struct PackPlan {
  std::vector<TensorInfo> infos;
  std::map<std::string, std::string> metadata;
  std::vector<ExpectedTensor> others;
  int64_t num_linears = 0;
};

PackPlan make_plan(const Checkpoint& checkpoint, const PackOptions& options, Device& device) {
  PackPlan plan;
  plan.metadata = {
      {"format", "erne packed weights"},
      {"version", std::to_string(kPackedVersion)},
      {"dtype", std::string(dtype_name(options.load.dtype))},
      {"inputs", std::string(inputs_word(options.load.inputs.value_or(Inputs::kFull)))},
      {"cache", std::string(dtype_name(resolve_cache_dtype(checkpoint, options.load)))},
      {"flags", flags_text(options.load)},
      {"source", options.source},
      {"device", device.info().detail}};
  visit_linears(
      checkpoint, device, options.load, Visit::kPlan,
      [&](const std::string& name, const Linear& w, size_t bytes) {
        PackedWeight packed{device.weight_layout(w.dtype, w.codes),
                            w.n,
                            w.k,
                            w.dtype,
                            w.codes,
                            w.input_absmax,
                            w.kind,
                            {}};
        if (packed.layout.empty()) {
          fail(Code::kUnsupported, "weights packed for device {} cannot be kept",
               device.info().name);
        }
        plan.infos.push_back(
            {name + kPackedSuffix, DType::kU8, {static_cast<int64_t>(packed_size(bytes))}});
        plan.metadata[name + kPackedSuffix] = packed_text(packed);
      });
  plan.num_linears = static_cast<int64_t>(plan.infos.size());
  plan.others = other_tensors(checkpoint);
  for (const ExpectedTensor& tensor : plan.others) {
    plan.infos.push_back({tensor.name, stored_dtype(tensor, checkpoint), tensor.pt_shape()});
  }
  for (size_t layer = 0; layer < checkpoint.kv_absmax().size(); ++layer) {
    for (const char* part : {"cachek", "cachev"})
      plan.infos.push_back(
          {kv_scale_name(layer, part), DType::kF32, {checkpoint.config().kv_size()}});
  }
  return plan;
}

uint64_t write_weights(const fs::path& path, const PackPlan& plan, const Checkpoint& checkpoint,
                       const PackOptions& options, Device& device) {
  uint64_t bytes = 0;
  for (const TensorInfo& info : plan.infos) bytes += info.bytes();
  check_free_space(path.parent_path(), bytes);
  Progress progress("packing weights", bytes, ProgressUnit::kBytes, options.load.show_progress);
  SafetensorsWriter file(path, plan.infos, plan.metadata, kPackedStart);
  PieceWriter writer(file);
  visit_linears(checkpoint, device, options.load, Visit::kPack,
                [&](const std::string&, const Linear& w, size_t size) {
                  writer.write(w.data.data(), size);
                  writer.pad(packed_size(size) - size);
                  progress.add(packed_size(size));
                });
  const auto source = checkpoint_source(checkpoint);
  std::vector<std::byte> rows;
  for (const ExpectedTensor& tensor : plan.others) {
    const DType dtype = stored_dtype(tensor, checkpoint);
    const auto row_bytes = static_cast<size_t>(tensor.cols) * dtype_bytes(dtype);
    const auto step = std::max<int64_t>(1, static_cast<int64_t>(kPieceBytes / row_bytes));
    for (int64_t begin = 0; begin < tensor.rows; begin += step) {
      const int64_t count = std::min(step, tensor.rows - begin);
      rows.resize(static_cast<size_t>(count) * row_bytes);
      source->read_rows(tensor, begin, count, dtype, rows.data());
      writer.write(rows.data(), rows.size());
      progress.add(rows.size());
    }
  }
  for (const KvAbsmax& layer : checkpoint.kv_absmax()) {
    for (const std::vector<float>* values : {&layer.keys, &layer.values})
      writer.write(values->data(), values->size() * sizeof(float));
  }
  writer.flush();
  file.commit();
  return file.file_bytes();
}

// The weights are no longer what the input's quantization_config says, and their type is decided.
void write_config(const fs::path& from, const fs::path& to, DType dtype) {
  OrderedJson json = parse_ordered_json(read_file(from), from.string());
  json.erase("quantization_config");
  json.erase("dtype");
  json["torch_dtype"] = dtype_name(dtype);
  write_file(to, json.dump(2) + "\n");
}

}  // namespace

PackResult pack_model(const PackOptions& options, Device& device) {
  const auto checkpoint = Checkpoint::open(options.input);
  checkpoint->refuse_packed("packed again");
  std::error_code error;
  if (fs::equivalent(options.input, options.output, error)) {
    fail(Code::kInvalidArgument, "input and output are the same folder: {}",
         options.input.string());
  }
  const PackPlan plan = make_plan(*checkpoint, options, device);
  if (checkpoint->num_mtp_layers() > 0)
    log::warn("{}: the MTP layers are not packed", options.input.string());
  StagingFolder staging(options.output, options.force);
  write_config(options.input / "config.json", staging.path() / "config.json", options.load.dtype);
  copy_companions(options.input, staging.path());
  PackResult result;
  result.num_linears = plan.num_linears;
  result.bytes = write_weights(staging.path() / kPackedFile, plan, *checkpoint, options, device);
  result.flags = plan.metadata.at("flags");
  staging.commit();
  return result;
}

}  // namespace erne
