// The encoders of WINT2.5 and WINT2 (spec quantization.md 8.4).
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "quant/ccq.h"

namespace erne {
namespace {

constexpr int64_t kGroup = kCcqGroup;
constexpr int kLanes = 8;
constexpr int kCodes = 256;
constexpr int kVectors = 16;  // of four weights in a group
// Local scale times super, in units of a group's rms, that codes of +-32 fit best.
constexpr float kStep2 = 0.058F;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Affine maps that scatter 256 codes well over the 2^15 states, found offline (the specification's
// reference). Fused and unfused evaluation agree on all their codes.
constexpr std::array<std::array<double, 2>, 3> kSeeds{{{120.94154638914296, 37.54015775352458},
                                                       {117.92964612710331, 2122.2236368754193},
                                                       {369.57853890918693, 28212.440713706827}}};

// The row padded with zeros to whole groups; nothing where a value is NaN or infinite.
std::vector<float> finite_row(const float* weights, int64_t cols) {
  std::vector<float> w(static_cast<size_t>((cols + kCcqGroup - 1) / kCcqGroup * kCcqGroup));
  std::copy_n(weights, cols, w.begin());
  const bool finite = std::all_of(w.begin(), w.end(), [](float x) { return std::isfinite(x); });
  return finite ? w : std::vector<float>();
}

// What a row that is not finite becomes.
CcqConstants broken_row(CodeType type, int64_t cols, uint8_t* bytes) {
  std::fill_n(bytes, ccq_row_bytes(type, cols), uint8_t{0});
  return {.super = std::numeric_limits<float>::quiet_NaN()};
}

float mean_square(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{x[i]} * x[i];
  return static_cast<float>(sum / static_cast<double>(n));
}

// The bits of the n overlapping 3-bit windows nearest to y: a window's highest bit is the lowest
// of the one before it, so two states (that bit) and four branches.
uint32_t nearest_windows(const float* y, int n) {
  auto cost = [&](int i, uint32_t code) {
    const float e = y[i] - (static_cast<float>(code) - 4);
    return e * e;
  };
  std::array<float, 2> best{kInfinity, kInfinity};
  std::array<uint32_t, 2> word{};
  for (uint32_t code = 0; code < 8; ++code) {
    if (cost(0, code) < best[code & 1]) {
      best[code & 1] = cost(0, code);
      word[code & 1] = code;
    }
  }
  for (int i = 1; i < n; ++i) {
    std::array<float, 2> next{kInfinity, kInfinity};
    std::array<uint32_t, 2> path{};
    for (uint32_t state = 0; state < 2; ++state) {
      for (uint32_t fresh = 0; fresh < 4; ++fresh) {
        const float total = best[state] + cost(i, state << 2 | fresh);
        if (total < next[fresh & 1]) {
          next[fresh & 1] = total;
          path[fresh & 1] = word[state] << 2 | fresh;
        }
      }
    }
    best = next;
    word = path;
  }
  return best[0] <= best[1] ? word[0] : word[1];
}

void encode_group25(const float* x, float super, std::array<uint16_t, 10>& words) {
  const float wanted = super > 0 ? std::sqrt(mean_square(x, kGroup)) * 0.47F / super : 1;
  const float local = std::clamp(std::nearbyint(wanted), 1.0F, 8191.0F);
  const float step = super > 0 ? local * super : 1;
  std::array<float, kGroup> y;
  for (size_t i = 0; i < y.size(); ++i) y[i] = x[i] / step;
  for (size_t w = 0; w < 9; ++w) {
    words[w] = static_cast<uint16_t>(nearest_windows(&y[7 * w], 3) << 9 |
                                     nearest_windows(&y[7 * w + 3], 4));
  }
  const float last = std::clamp(std::nearbyint(y[kGroup - 1]) + 4, 0.0F, 7.0F);
  words[9] =
      static_cast<uint16_t>(static_cast<uint32_t>(last) << 13 | static_cast<uint32_t>(local));
}

struct Codebook {
  explicit Codebook(const std::array<double, 2>& seed)
      : scale(static_cast<float>(seed[0])), zp(static_cast<float>(seed[1])) {
    const auto book = ccq2_book(scale, zp);
    for (size_t c = 0; c < kCodes; ++c) {
      norm[c] = 0;
      for (size_t j = 0; j < 4; ++j) {
        value[j][c] = book[c][j];
        norm[c] += value[j][c] * value[j][c];
      }
    }
  }
  float scale;
  float zp;
  float value[4][kCodes];
  float norm[kCodes];
};

// The smallest of local^2 |b|^2 - 2 local <b, y> over the codes b.
float smallest_distance(const float* dot, const float* norm, float local) {
  float best[kLanes];
  std::fill_n(best, kLanes, kInfinity);
  for (int c = 0; c < kCodes; c += kLanes) {
    for (int j = 0; j < kLanes; ++j) {
      const float d = local * local * norm[c + j] - 2 * local * dot[c + j];
      best[j] = d < best[j] ? d : best[j];
    }
  }
  return *std::min_element(best, best + kLanes);
}

// What a group becomes.
struct Group2 {
  float error = kInfinity;  // without the |y|^2 that all encodings share
  int local = 1;
  uint8_t codes[kVectors] = {};
};

void nearest_codes(const float (*dots)[kCodes], const Codebook& book, Group2& group) {
  const auto local = static_cast<float>(group.local);
  for (int v = 0; v < kVectors; ++v) {
    float least = kInfinity;
    for (int c = 0; c < kCodes; ++c) {
      const float d = local * local * book.norm[c] - 2 * local * dots[v][c];
      if (d < least) {
        least = d;
        group.codes[v] = static_cast<uint8_t>(c);
      }
    }
  }
}

// y: 64 weights over super. Tries the local scales around the one that fits the group's rms.
Group2 encode_group2(const float* y, const Codebook& book) {
  float dots[kVectors][kCodes];
  for (int v = 0; v < kVectors; ++v) {
    const float* x = y + 4 * v;
    for (int c = 0; c < kCodes; ++c) {
      dots[v][c] = x[0] * book.value[0][c] + x[1] * book.value[1][c] + x[2] * book.value[2][c] +
                   x[3] * book.value[3][c];
    }
  }
  const float fitting = std::sqrt(mean_square(y, kGroup)) * kStep2;
  const int first = std::clamp(static_cast<int>(fitting * 0.75F), 1, 15);
  const int last = std::clamp(static_cast<int>(fitting * 1.3F) + 1, 1, 15);
  Group2 best;
  for (int l = first; l <= last; ++l) {
    float error = 0;
    for (const auto& dot : dots) error += smallest_distance(dot, book.norm, static_cast<float>(l));
    if (error < best.error) {
      best.error = error;
      best.local = l;
    }
  }
  nearest_codes(dots, book, best);
  return best;
}

using Books = std::array<Codebook, kSeeds.size()>;

// The codebook that fits up to eight groups of the row best: all three are about equal over many.
const Codebook& choose_book(const std::vector<float>& y, const Books& books) {
  const size_t groups = y.size() / kGroup;
  const size_t step = (groups + 7) / 8;
  const Codebook* best = books.data();
  double least = 0;
  for (const Codebook& book : books) {
    double error = 0;
    for (size_t g = 0; g < groups; g += step)
      error += double{encode_group2(y.data() + g * kGroup, book).error};
    if (&book == books.data() || error < least) {
      least = error;
      best = &book;
    }
  }
  return *best;
}

// The scale that gives the strongest group a local scale near 13; 0 for a zero row.
bf16 super_scale2(const std::vector<float>& w) {
  float strongest = 0;
  for (size_t k = 0; k < w.size(); k += kGroup) {
    strongest = std::max(strongest, mean_square(w.data() + k, kGroup));
  }
  return to_bf16(std::sqrt(strongest) * (kStep2 / 13));
}

}  // namespace

CcqConstants ccq25_encode_row(const float* weights, int64_t cols, uint8_t* bytes) {
  const std::vector<float> w = finite_row(weights, cols);
  if (w.empty()) return broken_row(CodeType::kCcq25, cols, bytes);
  float amax = 0;
  for (const float x : w) amax = std::max(amax, std::fabs(x));
  const float super = to_f32(to_bf16(amax / (2 * 8191)));
  std::array<uint16_t, 10> words;
  for (size_t k = 0; k < w.size(); k += kGroup) {
    encode_group25(w.data() + k, super, words);
    for (const uint16_t word : words) {
      *bytes++ = static_cast<uint8_t>(word & 0xFF);
      *bytes++ = static_cast<uint8_t>(word >> 8);
    }
  }
  return {.super = super};
}

CcqConstants ccq2_encode_row(const float* weights, int64_t cols, uint8_t* bytes) {
  static const Books books{Codebook(kSeeds[0]), Codebook(kSeeds[1]), Codebook(kSeeds[2])};
  std::vector<float> w = finite_row(weights, cols);
  if (w.empty()) return broken_row(CodeType::kCcq2, cols, bytes);
  const float super = to_f32(super_scale2(w));
  const bool zero = super == 0;  // local scale 0 stands for a row of zeros
  for (float& x : w) x = zero ? 0 : x / super;
  const Codebook& book = choose_book(w, books);
  const size_t groups = w.size() / kGroup;
  uint8_t* locals = bytes + groups * kVectors;
  std::fill_n(locals, (groups + 1) / 2, uint8_t{0});
  for (size_t g = 0; g < groups; ++g) {
    const Group2 group = encode_group2(w.data() + g * kGroup, book);
    std::copy_n(group.codes, kVectors, bytes + g * kVectors);
    const int local = zero ? 0 : group.local;
    locals[g / 2] = static_cast<uint8_t>(locals[g / 2] | (g % 2 == 0 ? local << 4 : local));
  }
  return {super, book.scale, book.zp};
}

}  // namespace erne
