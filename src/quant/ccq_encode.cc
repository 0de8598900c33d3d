// The encoders of WINT2.5 and WINT2 (spec quantization.md 8.4).
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "quant/ccq.h"

namespace erne {
namespace {

constexpr int64_t kGroup = 64;
constexpr int kLanes = 8;
constexpr int kCodes = 256;
constexpr int kVectors = 16;  // of four weights in a group
constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Affine maps that scatter 256 codes well over the 2^15 states, found offline (the specification's
// reference). Fused and unfused evaluation agree on all their codes.
constexpr std::array<std::array<double, 2>, 3> kSeeds{{{120.94154638914296, 37.54015775352458},
                                                       {117.92964612710331, 2122.2236368754193},
                                                       {369.57853890918693, 28212.440713706827}}};

std::vector<float> finite_row(const MatrixView& weights, int64_t row) {
  std::vector<float> w(static_cast<size_t>(weights.cols));
  read_row_f32(weights, row, w.data());
  for (const float x : w) {
    if (!std::isfinite(x)) fail(Code::kInvalidArgument, "row {} holds NaN or infinity", row);
  }
  return w;
}

void check_width(const MatrixView& weights, int64_t multiple, const char* format) {
  check_matrix(weights.rows, weights.cols);
  if (weights.cols % multiple != 0) {
    fail(Code::kInvalidArgument, "{} needs a multiple of {} inputs, not {}", format, multiple,
         weights.cols);
  }
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

struct Encoding2 {
  double error = 0;
  std::vector<uint8_t> codes;
  std::vector<uint8_t> local;  // one a group
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

// y: 64 weights over super. Tries all local scales; the codes are found for the best one.
void encode_group2(const float* y, const Codebook& book, Encoding2& out) {
  float dots[kVectors][kCodes];
  for (int v = 0; v < kVectors; ++v) {
    const float* x = y + 4 * v;
    for (int c = 0; c < kCodes; ++c) {
      dots[v][c] = x[0] * book.value[0][c] + x[1] * book.value[1][c] + x[2] * book.value[2][c] +
                   x[3] * book.value[3][c];
    }
  }
  float best = kInfinity;
  int local = 1;
  for (int l = 1; l < 16; ++l) {
    float error = 0;
    for (const auto& dot : dots) error += smallest_distance(dot, book.norm, static_cast<float>(l));
    if (error < best) {
      best = error;
      local = l;
    }
  }
  const auto scale = static_cast<float>(local);
  for (const auto& dot : dots) {
    int code = 0;
    float least = kInfinity;
    for (int c = 0; c < kCodes; ++c) {
      const float d = scale * scale * book.norm[c] - 2 * scale * dot[c];
      if (d < least) {
        least = d;
        code = c;
      }
    }
    out.codes.push_back(static_cast<uint8_t>(code));
  }
  out.local.push_back(static_cast<uint8_t>(local));
  out.error += double{best};
}

}  // namespace

Ccq25 ccq25_encode(const MatrixView& weights) {
  check_width(weights, kGroup, "WINT2.5");
  const int64_t n = weights.rows;
  Ccq25 out{n, weights.cols,
            std::vector<uint16_t>(static_cast<size_t>(weights.cols / kGroup * 10 * n)),
            std::vector<bf16>(static_cast<size_t>(n))};
  for (int64_t row = 0; row < n; ++row) {
    const std::vector<float> w = finite_row(weights, row);
    float amax = 0;
    for (const float x : w) amax = std::max(amax, std::fabs(x));
    const bf16 super = to_bf16(amax / (2 * 8191));
    out.super[static_cast<size_t>(row)] = super;
    std::array<uint16_t, 10> words;
    for (int64_t g = 0; g < weights.cols / kGroup; ++g) {
      encode_group25(w.data() + g * kGroup, to_f32(super), words);
      for (int64_t i = 0; i < 10; ++i) {
        out.words[static_cast<size_t>((g * 10 + i) * n + row)] = words[static_cast<size_t>(i)];
      }
    }
  }
  return out;
}

namespace {

// The row under the codebook that fits it best, and that codebook's index.
Encoding2 encode_row2(const std::vector<float>& y, const std::vector<Codebook>& books,
                      size_t* which) {
  Encoding2 best;
  for (size_t b = 0; b < books.size(); ++b) {
    Encoding2 trial;
    for (size_t k = 0; k < y.size(); k += kGroup) encode_group2(y.data() + k, books[b], trial);
    if (b == 0 || trial.error < best.error) {
      best = std::move(trial);
      *which = b;
    }
  }
  return best;
}

// The scale that gives the strongest group a local scale near 13; 1 for a zero row.
bf16 super_scale2(const std::vector<float>& w) {
  float strongest = 0;
  for (size_t k = 0; k < w.size(); k += kGroup) {
    strongest = std::max(strongest, mean_square(w.data() + k, kGroup));
  }
  return to_bf16(std::sqrt(strongest) * (0.058F / 13));
}

}  // namespace

Ccq2 ccq2_encode(const MatrixView& weights) {
  check_width(weights, 2 * kGroup, "WINT2");
  const std::vector<Codebook> books(kSeeds.begin(), kSeeds.end());
  const auto n = static_cast<size_t>(weights.rows);
  const auto k = static_cast<size_t>(weights.cols);
  Ccq2 out{weights.rows, weights.cols, {}, {}, {}, {}, {}};
  out.codes.resize(k / 4 * n);
  out.local.resize(k / 128 * n);
  for (size_t row = 0; row < n; ++row) {
    std::vector<float> w = finite_row(weights, static_cast<int64_t>(row));
    const bf16 super = super_scale2(w);
    const bool zero = to_f32(super) == 0;  // local scale 0 stands for a row of zeros
    for (float& x : w) x = zero ? 0 : x / to_f32(super);
    size_t book = 0;
    const Encoding2 e = encode_row2(w, books, &book);
    for (size_t i = 0; i < k / 4; ++i) out.codes[i * n + row] = e.codes[i];
    for (size_t i = 0; i < k / 128; ++i) {
      out.local[i * n + row] =
          zero ? uint8_t{0} : static_cast<uint8_t>(e.local[2 * i] << 4 | e.local[2 * i + 1]);
    }
    out.code_scale.push_back(books[book].scale);
    out.code_zp.push_back(books[book].zp);
    out.super.push_back(super);
  }
  return out;
}

}  // namespace erne
