// Which linear weights are quantised and how: the words of `--quantization` and `--mixed` (spec
// quantization.md 1). Router, correction bias, norms, embeddings and biases never are; the head
// only where it is asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace erne {

/// A rule that turns a matrix into codes and scales.
struct WeightScheme {
  enum class Method : uint8_t {
    kInt8,        ///< wint8: 8-bit integers
    kInt4,        ///< wint4: 4-bit integers
    kFp8Block,    ///< fp8_block: e4m3 with a scale for 128 x 128 weights
    kFp8Channel,  ///< fp8_channel: e4m3 with a scale for each row
    kFp8Tensor,   ///< fp8_tensor: e4m3 with one scale
    kW8a8,        ///< w8a8: wint8 whose inputs are int8 too
    kW4a8,        ///< w4a8: 4-bit integers of rotated weights, int8 inputs with a scale a row
    kCcq25,       ///< wint2.5: 2.5 bits, convolutional code
    kCcq2,        ///< wint2: 2 bits, convolutional code
  };
  Method method = Method::kInt8;
  int32_t group = 0;     ///< of integers: columns that share a scale, 32, 64 or 128; 0: a row
  bool has_min = false;  ///< of integers: every group has a minimum too
  bool search = false;   ///< of integers: scales of the least squared error instead of the largest
                         ///< weight's; slower to write

  /// Of w4a8 and fp8_tensor: inputs are rotated in blocks of the largest power of two up to this
  /// that divides their number; 1: they are not.
  int32_t rotation = 1;

  /// Whether it asks for inputs of 8 bits.
  bool has_int8_inputs() const { return method == Method::kW8a8 || method == Method::kW4a8; }
  /// "wint4:g64:min:mse"
  std::string name() const;
  friend bool operator==(const WeightScheme&, const WeightScheme&) = default;
};

/// "wint8", "wint4:g64", "wint4:g32:min", "fp8_block", "w4a8:r128", "wint2.5", …; nullopt for
/// "none" and "bf16". Throws Error{kInvalidArgument} naming the word and the valid ones.
std::optional<WeightScheme> parse_scheme(std::string_view word);

/// First layer whose experts wint2 and wint2.5 mean; those before are more sensitive.
inline constexpr int kFirstCcqLayer = 7;

class QuantizationPlan {
 public:
  /// Nothing is quantised.
  QuantizationPlan() = default;

  /// `base`: a scheme for everything but the head; on a mixture of experts wint4 and w4a8 mean the
  /// experts, the rest gets wint8. wint2 and wint2.5 mean experts from layer kFirstCcqLayer on,
  /// those before get wint4, the rest wint8 (spec 8.5). `mixed`: comma-separated exceptions
  /// ROLES[@A-B]=SCHEME, the last that fits wins; ROLES: attention, mlp, dense (these two and
  /// shared_experts), shared_experts, experts, lm_head; A-B: layers. Throws
  /// Error{kInvalidArgument}.
  static QuantizationPlan parse(std::string_view base, std::string_view mixed);

  /// What a weight gets, by its PT name ("model.layers.3.self_attn.q_proj.weight"); nullopt: it
  /// stays as it is.
  std::optional<WeightScheme> scheme(std::string_view pt_name, bool is_moe) const;
  /// The scheme of everything that no exception names.
  const std::optional<WeightScheme>& base() const { return base_; }
  bool empty() const { return !base_ && exceptions_.empty(); }
  /// As it was written: "wint4, lm_head=wint8"; "none" when empty.
  const std::string& text() const { return text_; }

 private:
  /// The linears that a plan tells apart.
  enum class Role : uint8_t { kAttention, kMlp, kExperts, kSharedExperts, kLmHead };
  struct Place {
    Role role;
    int layer;
  };
  struct Exception {
    std::vector<Role> roles;
    int first_layer;
    int last_layer;
    std::optional<WeightScheme> scheme;
  };
  static std::vector<Role> parse_roles(std::string_view word);
  static Exception parse_exception(std::string_view word);
  static std::optional<Place> find(std::string_view pt_name);
  std::optional<WeightScheme> base_scheme(const Place& place, bool is_moe) const;

  std::optional<WeightScheme> base_;
  std::vector<Exception> exceptions_;
  std::string text_ = "none";
};

}  // namespace erne
