// Opening a folder: index, shards, the checks across files. Layouts are resolved in layout.cc.
#include "model/checkpoint.h"

#include <algorithm>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/config_keys.h"
#include "model/dummy_tensors.h"
#include "model/kv_scales.h"
#include "model/layout.h"
#include "model/packed_weights.h"
#include "model/quantized_tensors.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxIndexBytes = size_t{256} << 20;

// Tensor name -> file name, as the index says; empty for a folder with a single file.
using WeightMap = std::unordered_map<std::string, std::string>;

WeightMap read_index(const fs::path& path) {
  const Json index =
      parse_json(read_file(path, kMaxIndexBytes), path.string(), {.unique_keys = true});
  const auto it = index.is_object() ? index.find("weight_map") : index.end();
  if (it == index.end() || !it->is_object() || it->empty()) {
    fail(Code::kCorrupt, "{}: no weight_map object with tensors in it", path.string());
  }
  WeightMap map;
  for (const auto& [name, file] : it->items()) {
    if (!file.is_string()) {
      fail(Code::kCorrupt, "{}: the file of tensor '{}' is not a string", path.string(),
           printable_name(name));
    }
    const auto& text = file.get_ref<const std::string&>();
    // Shards lie beside their index; a name with a separator could lead out of the folder.
    const bool plain = !text.empty() && text != "." && text != ".." &&
                       text.find('/') == std::string::npos &&
                       text.find('\\') == std::string::npos && text.find('\0') == std::string::npos;
    if (!plain) {
      fail(Code::kCorrupt,
           "{}: tensor '{}' is said to be in '{}'; a plain file name in the same folder is valid",
           path.string(), printable_name(name), printable_name(text));
    }
    map.emplace(name, text);
  }
  return map;
}

std::vector<std::string> shard_names(const WeightMap& map, const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& [tensor, file] : map) names.push_back(file);
  if (map.empty()) names.emplace_back("model.safetensors");
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const std::string& name : names) {
    if (is_present(folder / name)) continue;
    if (map.empty()) {
      fail(Code::kNotFound, "{} has neither model.safetensors nor model.safetensors.index.json",
           folder.string());
    }
    fail(Code::kNotFound, "{} does not exist, though model.safetensors.index.json names it",
         (folder / name).string());
  }
  return names;
}

}  // namespace

struct Checkpoint::State {
  fs::path folder;
  TextConfig config;
  GenerationConfig generation;
  std::vector<SafetensorsFile> files;
  std::vector<SourceTensor> sources;
  QuantizedTensors quantized;
  std::optional<PackedWeights> packed;
  std::vector<KvAbsmax> kv_absmax;
  ResolvedLayout layout;
  DummyTensors dummy;

  void open_shards();
  void open_packed();
  void resolve();
  void make_dummy(double scale, uint64_t seed);
  void check_index(const WeightMap& map, const fs::path& index_path) const;
  const LocatedTensor& located(std::string_view pt_name) const;
};

void Checkpoint::State::open_shards() {
  const fs::path index_path = folder / "model.safetensors.index.json";
  const WeightMap map = is_present(index_path) ? read_index(index_path) : WeightMap();
  for (const std::string& name : shard_names(map, folder))
    files.push_back(SafetensorsFile::open(folder / name));
  std::unordered_map<std::string_view, const fs::path*> seen;
  for (const SafetensorsFile& file : files) {
    for (const StoredTensor& tensor : file.tensors()) {
      const auto [it, inserted] = seen.emplace(tensor.info.name, &file.path());
      if (!inserted) {
        fail(Code::kCorrupt, "{}: tensor '{}' is in {} too", file.path().string(),
             printable_name(tensor.info.name), it->second->filename().string());
      }
      sources.push_back({&tensor, &file.path()});
    }
  }
  check_index(map, index_path);
}

// Linears lie in packed tensors, everything else under its own name.
void Checkpoint::State::open_packed() {
  files.push_back(SafetensorsFile::open(folder / kPackedFile));
  packed = read_packed_weights(files.back());
  for (const StoredTensor& tensor : files.back().tensors())
    sources.push_back({&tensor, &files.back().path()});
}

void Checkpoint::State::resolve() {
  std::vector<SourceTensor> numbers = sources;
  kv_absmax = take_kv_scales(numbers, config);
  std::unordered_set<std::string> elsewhere;
  if (packed) {
    std::erase_if(numbers, [](const SourceTensor& source) {
      return source.stored->info.name.ends_with(kPackedSuffix);
    });
    for (const ExpectedTensor& tensor : expected_tensors(config)) {
      if (tensor.kind == TensorKind::kLinear) elsewhere.insert(tensor.name);
    }
  } else {
    quantized = take_quantized(numbers, config);
    for (const auto& [name, rows] : quantized) elsewhere.insert(name);
  }
  layout = resolve_layout(numbers, config, folder.string(), elsewhere);
}

void Checkpoint::State::check_index(const WeightMap& map, const fs::path& index_path) const {
  std::unordered_map<std::string, const SafetensorsFile*> by_name;
  for (const SafetensorsFile& file : files) by_name.emplace(file.path().filename().string(), &file);
  for (const auto& [tensor, file] : map) {
    if (by_name.at(file)->find(tensor) != nullptr) continue;
    fail(Code::kCorrupt, "{}: tensor '{}' is said to be in {}, which does not have it",
         index_path.string(), printable_name(tensor), file);
  }
}

const LocatedTensor& Checkpoint::State::located(std::string_view pt_name) const {
  const auto it = layout.tensors.find(std::string(pt_name));
  if (it == layout.tensors.end()) {
    fail(Code::kCorrupt, "{}: tensor '{}' is missing", folder.string(), printable_name(pt_name));
  }
  return it->second;
}

std::string_view layout_name(CheckpointLayout layout) {
  switch (layout) {
    case CheckpointLayout::kPt:
      return "pt";
    case CheckpointLayout::kEarlyPt:
      return "early-pt";
    case CheckpointLayout::kPaddle:
      return "paddle";
    case CheckpointLayout::kStacked:
      return "stacked";
  }
  return "unknown";
}

std::unique_ptr<Checkpoint> Checkpoint::open(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    fail(Code::kNotFound, "{} is not a folder; a Hugging Face folder with config.json is needed",
         folder.string());
  }
  auto state = std::make_unique<State>();
  state->folder = folder;
  state->config = TextConfig::load(folder);
  state->generation = GenerationConfig::load(folder);
  is_present(folder / kPackedFile) ? state->open_packed() : state->open_shards();
  state->resolve();
  if (const auto& unknown = state->layout.unknown; !unknown.empty()) {
    log::warn("{}: {} tensors are not part of this model and are not read, e.g. '{}'",
              folder.string(), unknown.size(), unknown.front());
  }
  return std::unique_ptr<Checkpoint>(new Checkpoint(std::move(state)));
}

std::unique_ptr<Checkpoint> Checkpoint::dummy(const fs::path& folder, uint64_t seed) {
  auto state = std::make_unique<State>();
  state->folder = folder;
  state->config = TextConfig::load(folder);
  state->generation = GenerationConfig::load(folder);
  state->make_dummy(initializer_range(folder), seed);
  return std::unique_ptr<Checkpoint>(new Checkpoint(std::move(state)));
}

std::unique_ptr<Checkpoint> Checkpoint::shapes(const TextConfig& config) {
  auto state = std::make_unique<State>();
  state->folder = "config.json";
  state->config = config;
  state->make_dummy(0, 0);
  return std::unique_ptr<Checkpoint>(new Checkpoint(std::move(state)));
}

void Checkpoint::State::make_dummy(double scale, uint64_t seed) {
  if (!config.quant_method.empty()) {
    fail(Code::kInvalidArgument,
         "{}: dummy weights are numbers, but the config describes {} weights; take "
         "quantization_config out and choose a --quantization",
         folder.string(), config.quant_method);
  }
  dummy = make_dummy_tensors(config, scale, seed);
  for (const auto& [name, view] : dummy.views) layout.tensors[name] = {view, {nullptr, &folder}};
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::~Checkpoint() = default;

const fs::path& Checkpoint::folder() const { return state_->folder; }
const TextConfig& Checkpoint::config() const { return state_->config; }
const GenerationConfig& Checkpoint::generation_config() const { return state_->generation; }
CheckpointLayout Checkpoint::layout() const { return state_->layout.layout; }
const PackedWeights* Checkpoint::packed() const {
  return state_->packed ? &*state_->packed : nullptr;
}

void Checkpoint::refuse_packed(std::string_view done) const {
  if (!state_->packed) return;
  fail(Code::kInvalidArgument,
       "{} is packed for a processor and cannot be {}; name the model that it was packed from: {}",
       state_->folder.string(), done, state_->packed->source);
}

bool Checkpoint::is_mapped() const { return state_->dummy.pool.empty(); }
int Checkpoint::num_mtp_layers() const { return state_->layout.num_mtp_layers; }

const std::vector<KvAbsmax>& Checkpoint::kv_absmax() const { return state_->kv_absmax; }

bool Checkpoint::has(std::string_view pt_name) const {
  return state_->layout.tensors.contains(std::string(pt_name));
}

DType Checkpoint::dtype(std::string_view pt_name) const {
  const DType stored = state_->located(pt_name).view.dtype;
  return stored == DType::kU16 ? DType::kBF16 : stored;
}

MatrixView Checkpoint::matrix(std::string_view pt_name, int64_t rows, int64_t cols) const {
  const LocatedTensor& located = state_->located(pt_name);
  if (located.view.rows != rows || located.view.cols != cols) {
    fail(Code::kCorrupt, "{}: tensor '{}' is [{}, {}], [{}, {}] is asked for",
         located.source.file->string(), pt_name, located.view.rows, located.view.cols, rows, cols);
  }
  return located.view;
}

std::shared_ptr<const CodeRows> Checkpoint::codes(std::string_view pt_name) const {
  const auto it = state_->quantized.find(std::string(pt_name));
  return it == state_->quantized.end() ? nullptr : it->second;
}

std::vector<float> Checkpoint::vector(std::string_view pt_name, int64_t size) const {
  const MatrixView view = matrix(pt_name, 1, size);
  std::vector<float> values(static_cast<size_t>(size));
  read_row_f32(view, 0, values.data());
  return values;
}

std::vector<Checkpoint::Entry> Checkpoint::entries() const {
  std::vector<Entry> entries;
  entries.reserve(state_->sources.size());
  for (const SourceTensor& source : state_->sources) {
    const TensorInfo& info = source.stored->info;
    entries.push_back({info.name, info.dtype, info.shape, source.stored->bytes,
                       source.file->filename().string()});
  }
  return entries;
}

}  // namespace erne
