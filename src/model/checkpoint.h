// A checkpoint folder as one name space: whatever the layout on disk (spec text.md 2), tensors are
// found by their PT names
// ("model.layers.3.self_attn.q_proj.weight") as [out, in] views into the mapped files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne {

/// Layouts of spec text.md 2.4, detected by content.
enum class CheckpointLayout { kPt, kEarlyPt, kPaddle, kStacked };

/// "pt", "early-pt", "paddle", "stacked": the words of `erne convert --layout`.
std::string_view layout_name(CheckpointLayout layout);

struct KvAbsmax;
struct PackedWeights;

class Checkpoint {
 public:
  /// Opens config.json and all shards, checks every header (sizes, offsets, overlaps, duplicates,
  /// index paths) and maps them. Throws Error naming file, tensor and cause.
  static std::unique_ptr<Checkpoint> open(const std::filesystem::path& folder);

  /// The same interface over made-up weights of the shapes in folder/config.json, the only file
  /// that is read; equal seeds give equal weights. Throws Error{kInvalidArgument} for a config of
  /// quantised weights.
  static std::unique_ptr<Checkpoint> dummy(const std::filesystem::path& folder, uint64_t seed = 0);
  /// The same of a configuration that may have no folder: for what asks only about sizes.
  static std::unique_ptr<Checkpoint> shapes(const TextConfig& config);

  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;
  ~Checkpoint();

  const std::filesystem::path& folder() const;
  const TextConfig& config() const;
  const GenerationConfig& generation_config() const;
  CheckpointLayout layout() const;
  /// Whether matrices lie in mapped files, each in pages of its own that may be released.
  bool is_mapped() const;

  /// The linears of a packed folder (packed_weights.h), which matrix() and codes() do not have;
  /// null for any other.
  const PackedWeights* packed() const;
  /// Throws Error{kInvalidArgument} for a packed folder: it cannot be `done` ("quantised").
  void refuse_packed(std::string_view done) const;

  /// Complete multi-token-prediction layers in the files (config.json may promise others).
  int num_mtp_layers() const;

  /// False for lm_head.weight of a tied model, even where a file stores a copy, and for quantised
  /// weights.
  bool has(std::string_view pt_name) const;
  /// Type on disk; U16 is reported as bfloat16. Throws Error{kCorrupt} if absent.
  DType dtype(std::string_view pt_name) const;
  /// A matrix of exactly this shape. Throws Error{kCorrupt} if absent or of another shape or type.
  MatrixView matrix(std::string_view pt_name, int64_t rows, int64_t cols) const;
  /// The codes of a quantised weight; null for one that is stored as numbers.
  std::shared_ptr<const CodeRows> codes(std::string_view pt_name) const;
  /// A vector of exactly `size` floats (shapes [size] and [1, size]).
  std::vector<float> vector(std::string_view pt_name, int64_t size) const;

  /// Static scales of the KV cache, one entry a layer; empty: the files hold none.
  const std::vector<KvAbsmax>& kv_absmax() const;

  struct Entry {
    std::string name;  ///< as stored
    DType dtype;
    std::vector<int64_t> shape;
    uint64_t bytes;
    std::string file;
  };
  /// Every stored tensor, for inspect.
  std::vector<Entry> entries() const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace erne
