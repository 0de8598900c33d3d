// Names and shapes of an ERNIE 4.5 text model, and where each of them lies in the files of a
// checkpoint: the four layouts of spec text.md 2.4 (PT, early fused PT, Paddle transposed, stacked
// experts) resolved to one name space of strided views.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "model/checkpoint.h"
#include "model/config.h"
#include "tensor/safetensors.h"
#include "tensor/tensor.h"

namespace erne {

/// How a tensor behaves under a change of layout or dtype.
enum class TensorKind {
  kLinear,     ///< [out, in]; stored [in, out] by Paddle
  kRouter,     ///< like kLinear, and always float32
  kEmbedding,  ///< [V, H], never transposed
  kVector,     ///< norms and biases, [n]
  kCorrection  ///< e_score_correction_bias: [1, E], always float32
};

/// A tensor that the configuration asks for, by its PT name. Vectors have rows 1.
struct ExpectedTensor {
  std::string name;
  TensorKind kind;
  int64_t rows;
  int64_t cols;

  std::vector<int64_t> pt_shape() const;
};

/// Every tensor of the model, in the order of a forward pass; MTP layers are extra.
std::vector<ExpectedTensor> expected_tensors(const TextConfig& config);
/// The tensors of MTP layer `depth` (spec text.md 5.1).
std::vector<ExpectedTensor> expected_mtp_tensors(const TextConfig& config, int depth);

/// One stored tensor with the file that holds it (for messages).
struct SourceTensor {
  const StoredTensor* stored;
  const std::filesystem::path* file;
};

struct LocatedTensor {
  MatrixView view;
  SourceTensor source;
};

struct ResolvedLayout {
  CheckpointLayout layout = CheckpointLayout::kPt;
  int num_mtp_layers = 0;
  std::unordered_map<std::string, LocatedTensor>
      tensors;                       ///< by PT name; only names that the model knows
  std::vector<std::string> unknown;  ///< stored names without a place, worth a warning
};

/// Finds every expected tensor. Throws Error{kCorrupt} naming file, tensor and cause for missing,
/// doubled, misshapen or contradicting ones and for types that are not floating;
/// Error{kUnsupported} for quantised ones. `what` names the checkpoint in messages that concern no
/// single file. Tensors named in `elsewhere` (quantised weights) need not be there.
ResolvedLayout resolve_layout(const std::vector<SourceTensor>& sources, const TextConfig& config,
                              std::string_view what,
                              const std::unordered_set<std::string>& elsewhere = {});

}  // namespace erne
