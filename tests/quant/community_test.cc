// Folders of other projects, made from one matrix of codes, scales and zero points: every reader
// gives (q - z) s exactly, in the format that its data allow, and refuses what does not fit.
#include "quant/community.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/error.h"
#include "quant/fp8.h"
#include "quant/packing.h"
#include "quant/samples.h"

namespace erne {
namespace {

using testing::HasSubstr;
using namespace testing_support;  // NOLINT

// A tensor that owns its bytes.
struct Owned {
  std::vector<std::byte> bytes;
  RawTensor raw;
};

template <typename T>
Owned tensor(const char* name, DType dtype, std::vector<int64_t> shape,
             const std::vector<T>& values) {
  const auto span = std::as_bytes(std::span(values));
  Owned owned{{span.begin(), span.end()}, {name, dtype, std::move(shape), {}}};
  owned.raw.data = owned.bytes;  // moving the vector keeps its memory
  return owned;
}

enum class Zeros : uint8_t { kHalf, kAny };

// [rows, cols] values (q - z) s with f16 scales, and its parts.
struct Source {
  int64_t rows;
  int64_t cols;
  int64_t group;
  int bits;
  std::vector<uint8_t> q;  ///< [rows, cols]
  std::vector<uint8_t> z;  ///< [rows, groups]
  std::vector<float> s;    ///< [rows, groups], exact in f16

  int64_t groups() const { return cols / group; }
  uint8_t code(int64_t n, int64_t k) const { return q[static_cast<size_t>(n * cols + k)]; }
  uint8_t zero(int64_t n, int64_t g) const { return z[static_cast<size_t>(n * groups() + g)]; }
  float scale(int64_t n, int64_t g) const { return s[static_cast<size_t>(n * groups() + g)]; }
  std::vector<float> values(const std::vector<int32_t>& g_idx = {}) const {
    std::vector<float> v;
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t k = 0; k < cols; ++k) {
        const int64_t g = g_idx.empty() ? k / group : g_idx[static_cast<size_t>(k)];
        v.push_back(static_cast<float>(code(n, k) - zero(n, g)) * scale(n, g));
      }
    }
    return v;
  }
};

Source source(int64_t rows, int64_t cols, int64_t group, int bits, Zeros zeros, uint64_t seed = 1) {
  Source src{rows, cols, group, bits, {}, {}, {}};
  const uint32_t mask = (1U << bits) - 1U;
  for (int64_t i = 0; i < rows * cols; ++i) {
    src.q.push_back(static_cast<uint8_t>(philox(seed, 0, static_cast<uint64_t>(i))[0] & mask));
  }
  for (int64_t i = 0; i < rows * src.groups(); ++i) {
    const auto x = philox(seed, 1, static_cast<uint64_t>(i));
    src.z.push_back(static_cast<uint8_t>(zeros == Zeros::kHalf ? 1U << (bits - 1) : x[0] & mask));
    src.s.push_back(to_f32(to_f16(0.001F * static_cast<float>(1 + x[1] % 100))));
  }
  return src;
}

std::vector<f16> halves(const std::vector<float>& values) {
  std::vector<f16> out;
  for (const float x : values) out.push_back(to_f16(x));
  return out;
}

// at(i, j) for i of m, j of n, row-major.
template <typename T>
std::vector<T> table(int64_t m, int64_t n, const std::function<T(int64_t, int64_t)>& at) {
  std::vector<T> out;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) out.push_back(at(i, j));
  }
  return out;
}

// Streams of bits along j, one for each i, laid out [words, m] when `down`, else [m, words].
std::vector<uint32_t> streams(int64_t m, int64_t n, int bits, bool down,
                              const std::function<uint8_t(int64_t, int64_t)>& at) {
  std::vector<std::vector<uint32_t>> rows;
  for (int64_t i = 0; i < m; ++i) {
    rows.push_back(
        pack_bits(table<uint8_t>(1, n, [&](int64_t, int64_t j) { return at(i, j); }), bits));
  }
  const auto words = static_cast<int64_t>(rows[0].size());
  auto word = [&](int64_t i, int64_t w) {
    return rows[static_cast<size_t>(i)][static_cast<size_t>(w)];
  };
  if (down) return table<uint32_t>(words, m, [&](int64_t w, int64_t i) { return word(i, w); });
  return table<uint32_t>(m, words, [&](int64_t i, int64_t w) { return word(i, w); });
}

std::vector<float> scales_by_group(const Source& src) {
  return table<float>(src.groups(), src.rows,
                      [&](int64_t g, int64_t n) { return src.scale(n, g); });
}

struct Gptq {
  Owned qweight, qzeros, scales;
  GptqTensors tensors() const { return {qweight.raw, qzeros.raw, scales.raw, std::nullopt}; }
};

Gptq gptq(const Source& src, int add) {
  const auto mask = static_cast<uint8_t>((1 << src.bits) - 1);
  return {tensor("a.qweight", DType::kI32, {src.cols * src.bits / 32, src.rows},
                 streams(src.rows, src.cols, src.bits, true,
                         [&](int64_t n, int64_t k) { return src.code(n, k); })),
          tensor("a.qzeros", DType::kI32, {src.groups(), src.rows * src.bits / 32},
                 streams(src.groups(), src.rows, src.bits, false,
                         [&](int64_t g, int64_t n) {
                           return static_cast<uint8_t>((src.zero(n, g) - add) & mask);
                         })),
          tensor("a.scales", DType::kF16, {src.groups(), src.rows}, halves(scales_by_group(src)))};
}

TEST(Community, GptqOfEveryWidth) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const Zeros zeros : {Zeros::kHalf, Zeros::kAny}) {
      for (const int64_t group : {32, 64, 96}) {
        const Source src = source(32, 192, group, bits, zeros);
        for (const bool minus_one : {true, false}) {
          const Gptq g = gptq(src, minus_one ? 1 : 0);
          const GptqFormat format{bits, group, minus_one};
          EXPECT_EQ(values_of(*gptq_rows(g.tensors(), format, 32, 192)), src.values());
        }
      }
    }
  }
}

TEST(Community, SymmetricCodesNeedNoMins) {
  const Source src = source(32, 128, 64, 4, Zeros::kHalf);
  const Gptq g = gptq(src, 1);
  EXPECT_EQ(gptq_rows(g.tensors(), {4, 64}, 32, 128)->format(),
            (CodeFormat{CodeType::kInt4, 64, false, DType::kF16}));
  const Source any = source(32, 128, 64, 4, Zeros::kAny);
  EXPECT_EQ(gptq_rows(gptq(any, 1).tensors(), {4, 64}, 32, 128)->format(),
            (CodeFormat{CodeType::kInt4, 64, true, DType::kF32}));
  const Source row = source(32, 128, 128, 4, Zeros::kHalf);
  EXPECT_EQ(gptq_rows(gptq(row, 1).tensors(), {4, -1}, 32, 128)->format().group, 0);
}

// Groups scattered over the inputs (desc_act): each column keeps its exact value.
TEST(Community, GptqActivationOrder) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const Zeros zeros : {Zeros::kHalf, Zeros::kAny}) {
      const Source src = source(32, 128, 64, bits, zeros);
      const Gptq g = gptq(src, 1);
      std::vector<int32_t> order(128);
      for (size_t k = 0; k < 128; ++k) order[k] = static_cast<int32_t>(k / 64);
      Owned g_idx = tensor("a.g_idx", DType::kI32, {128}, order);
      GptqTensors tensors = g.tensors();
      tensors.g_idx = g_idx.raw;
      EXPECT_EQ(values_of(*gptq_rows(tensors, {bits, 64}, 32, 128)), src.values());
      for (size_t k = 0; k < 128; ++k) order[k] = static_cast<int32_t>(k % 3 % 2);
      g_idx = tensor("a.g_idx", DType::kI32, {128}, order);
      tensors.g_idx = g_idx.raw;
      const auto rows = gptq_rows(tensors, {bits, 64}, 32, 128);
      EXPECT_EQ(rows->format().group, 1);
      EXPECT_EQ(values_of(*rows), src.values(order));
      order[5] = 2;
      g_idx = tensor("a.g_idx", DType::kI32, {128}, order);
      tensors.g_idx = g_idx.raw;
      EXPECT_THROW(gptq_rows(tensors, {bits, 64}, 32, 128), Error);
    }
  }
}

TEST(Community, AwqGemmAndGemv) {
  for (const Zeros zeros : {Zeros::kHalf, Zeros::kAny}) {
    for (const int64_t group : {32, 64, 128}) {
      const Source src = source(24, 256, group, 4, zeros);
      const int64_t groups = src.groups();
      const Owned qweight = tensor(
          "b.qweight", DType::kI32, {256, 3},
          awq_pack(table<uint8_t>(256, 24, [&](int64_t k, int64_t n) { return src.code(n, k); })));
      const Owned qzeros = tensor("b.qzeros", DType::kI32, {groups, 3},
                                  awq_pack(table<uint8_t>(groups, 24, [&](int64_t g, int64_t n) {
                                    return src.zero(n, g);
                                  })));
      const Owned scales =
          tensor("b.scales", DType::kF16, {groups, 24}, halves(scales_by_group(src)));
      EXPECT_EQ(values_of(*awq_rows({qweight.raw, qzeros.raw, scales.raw}, AwqVersion::kGemm, group,
                                    24, 256)),
                src.values());

      const int64_t z = group == 32 ? 4 : (group == 64 ? 2 : 1);
      auto in = [&](int64_t g) { return g < groups; };
      const Owned v_weight =
          tensor("c.qweight", DType::kI32, {24, 32},
                 streams(24, 256, 4, false, [&](int64_t n, int64_t k) { return src.code(n, k); }));
      const Owned v_zeros = tensor("c.qzeros", DType::kI32, {24, z},
                                   streams(24, 8 * z, 4, false, [&](int64_t n, int64_t g) {
                                     return in(g) ? src.zero(n, g) : uint8_t{0};
                                   }));
      const Owned v_scales = tensor("c.scales", DType::kF16, {24, 8 * z},
                                    halves(table<float>(24, 8 * z, [&](int64_t n, int64_t g) {
                                      return in(g) ? src.scale(n, g) : 0;
                                    })));
      EXPECT_EQ(values_of(*awq_rows({v_weight.raw, v_zeros.raw, v_scales.raw}, AwqVersion::kGemv,
                                    group, 24, 256)),
                src.values());
    }
  }
}

TEST(Community, CompressedTensorsPacked) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (const Zeros zeros : {Zeros::kHalf, Zeros::kAny}) {
      for (const bool wide : {false, true}) {  // f32 scales
        const Source src = source(5, 96, 32, bits, zeros);
        const Owned packed = tensor(
            "d.weight_packed", DType::kI32, {5, (96 * bits + 31) / 32},
            streams(5, 96, bits, false, [&](int64_t n, int64_t k) { return src.code(n, k); }));
        const Owned scale = wide ? tensor("d.weight_scale", DType::kF32, {5, 3}, src.s)
                                 : tensor("d.weight_scale", DType::kF16, {5, 3}, halves(src.s));
        const Owned zero =
            tensor("d.weight_zero_point", DType::kI32, {(5 * bits + 31) / 32, 3},
                   streams(3, 5, bits, true, [&](int64_t g, int64_t n) { return src.zero(n, g); }));
        CompressedTensors tensors{packed.raw, scale.raw, std::nullopt, std::nullopt};
        if (zeros == Zeros::kAny) tensors.zero_point = zero.raw;
        const auto rows = compressed_packed_rows(tensors, bits, 32, 5, 96);
        EXPECT_EQ(values_of(*rows), src.values()) << bits;
        EXPECT_FALSE(rows->format().has_min && zeros == Zeros::kHalf && bits < 8);
      }
    }
  }
}

TEST(Community, CompressedTensorsInt8) {
  const Source src = source(6, 70, 70, 8, Zeros::kAny);
  std::vector<int8_t> weight;
  for (const uint8_t q : src.q) weight.push_back(static_cast<int8_t>(q - 128));
  std::vector<int8_t> zeros;
  for (const uint8_t z : src.z) zeros.push_back(static_cast<int8_t>(z - 128));
  const Owned w = tensor("e.weight", DType::kI8, {6, 70}, weight);
  const Owned s = tensor("e.weight_scale", DType::kF16, {6, 1}, halves(src.s));
  const Owned z = tensor("e.weight_zero_point", DType::kI8, {6, 1}, zeros);
  EXPECT_EQ(values_of(*compressed_int8_rows({w.raw, s.raw, z.raw, std::nullopt}, -1, 6, 70)),
            src.values());
  for (int8_t& x : weight) x = std::max<int8_t>(x, -127);
  const Owned clipped = tensor("e.weight", DType::kI8, {6, 70}, weight);
  const Owned one = tensor("e.weight_scale", DType::kF32, {1}, std::vector<float>{0.3F});
  const auto rows =
      compressed_int8_rows({clipped.raw, one.raw, std::nullopt, std::nullopt}, -1, 6, 70);
  EXPECT_EQ(rows->format(), (CodeFormat{CodeType::kInt8, 0, false, DType::kF32}));
  EXPECT_EQ(read_all(*rows).codes, weight);
}

TEST(Community, StoredFp8) {
  std::vector<uint8_t> codes;
  for (int i = 0; i < 130 * 300; ++i) codes.push_back(static_cast<uint8_t>(i * 7 % 120));
  const Owned w = tensor("f.weight", DType::kU8, {130, 300}, codes);
  const Owned block =
      tensor("f.weight_scale_inv", DType::kF32, {2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  const auto rows = fp8_stored_rows(w.raw, block.raw, {128, 128}, 130, 300);
  const Codes all = read_all(*rows);
  EXPECT_EQ(rows->format(), (CodeFormat{CodeType::kFp8, 128, false, DType::kF32}));
  EXPECT_TRUE(std::equal(codes.begin(), codes.end(), all.codes.begin(),
                         [](uint8_t a, int8_t b) { return a == static_cast<uint8_t>(b); }));
  EXPECT_EQ(all.scales[127 * 3 + 2], 3);
  EXPECT_EQ(all.scales[128 * 3], 4);
  const Owned whole = tensor("f.weight_scale", DType::kBF16, {}, std::vector<bf16>{to_bf16(0.5F)});
  EXPECT_EQ(read_all(*fp8_stored_rows(w.raw, whole.raw, {}, 130, 300)).scales[129], 0.5F);
  std::vector<float> each(130);
  each[77] = 9;
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{130}, {130, 1}}) {
    const Owned row = tensor("f.weight_scale", DType::kF32, shape, each);
    EXPECT_EQ(read_all(*fp8_stored_rows(w.raw, row.raw, {}, 130, 300)).scales[77], 9);
  }
  EXPECT_THROW(fp8_stored_rows(w.raw, block.raw, {128, 48}, 130, 300), Error);
  EXPECT_THROW(fp8_stored_rows(w.raw, block.raw, {64, 128}, 130, 300), Error);
  EXPECT_THROW(fp8_stored_rows(w.raw, block.raw, {}, 130, 300), Error);
  EXPECT_THROW(fp8_stored_rows(w.raw, block.raw, {-1, 128}, 130, 300), Error);
}

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Community, HostileTensorsAreRefusedByName) {
  const Source src = source(32, 128, 64, 4, Zeros::kAny);
  const Gptq good = gptq(src, 1);
  auto with = [&](const std::function<void(GptqTensors&)>& change, GptqFormat format = {4, 64}) {
    GptqTensors tensors = good.tensors();
    change(tensors);
    return error_of([&] { gptq_rows(tensors, format, 32, 128); });
  };
  EXPECT_EQ(with([](GptqTensors&) {}), "no error");
  EXPECT_THAT(with([](GptqTensors& t) { t.qweight.dtype = DType::kF32; }),
              HasSubstr("a.qweight: type is float32, expected int32 or uint32"));
  EXPECT_THAT(with([](GptqTensors& t) {
                t.qweight.shape = {16, 31};
              }),
              HasSubstr("a.qweight: shape is [16, 31], expected [16, 32]"));
  EXPECT_THAT(with([](GptqTensors& t) { t.qweight.shape = {16, 32, 1}; }), HasSubstr("a.qweight"));
  EXPECT_THAT(with([](GptqTensors& t) { t.qweight.data = t.qweight.data.first(8); }),
              HasSubstr("a.qweight: 8 bytes"));
  EXPECT_THAT(with([](GptqTensors& t) { t.qzeros.shape = {-2, 4}; }), HasSubstr("a.qzeros"));
  EXPECT_THAT(with([](GptqTensors& t) { t.scales.dtype = DType::kI16; }), HasSubstr("a.scales"));
  EXPECT_THAT(with([](GptqTensors&) {}, {5, 64}), HasSubstr("5 bits"));
  EXPECT_THAT(with([](GptqTensors&) {}, {4, 0}), HasSubstr("group size 0"));
  EXPECT_THAT(with([](GptqTensors&) {}, {4, 128}), HasSubstr("a.qzeros: shape is [2, 4]"));
  EXPECT_THAT(error_of([&] {
                gptq_rows(good.tensors(), {4, 64}, 32, int64_t{1} << 40);
              }),
              HasSubstr("columns"));
  EXPECT_THAT(error_of([&] {
                gptq_rows(good.tensors(), {4, 64}, 33, 128);
              }),
              HasSubstr("a.qweight"));
  EXPECT_THAT(error_of([&] { gptq_rows(good.tensors(), {4, 64}, 0, 128); }), HasSubstr("0 rows"));
  const Source small = source(32, 96, 48, 4, Zeros::kHalf);
  EXPECT_THAT(error_of([&] {
                gptq_rows(gptq(small, 1).tensors(), {4, 48}, 32, 96);
              }),
              HasSubstr("groups of 48 inputs"));
}

}  // namespace
}  // namespace erne
