// The AMX linears on scalar tiles: their packing, tiling and order of sums, on machines without
// AMX.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/thread_pool.h"
#include "code_samples.h"
#include "cpu/isa.h"
#include "cpu/pack.h"
#include "samples.h"

namespace erne::test {
namespace {

std::vector<float> run(const cpu::LinearKernel& kernel, const Values& x, const Values& w,
                       LinearKind kind, int64_t begin, int64_t end) {
  ThreadPool pool(1);
  const int64_t n = w.tensor().dim(0);
  const int64_t k = w.tensor().dim(1);
  const bool gated = kind == LinearKind::kGateUp;
  const MatrixView plain = w.view();
  const MatrixView halves[] = {{w.tensor().data, DType::kBF16, n / 2, k, k, 1},
                               {w.rows(n / 2, n).data, DType::kBF16, n / 2, k, k, 1}};
  Buffer packed = Buffer::host(cpu::packed_bytes(kernel.layout, n, k, DType::kBF16, kind));
  cpu::pack_weight(
      gated ? std::span<const MatrixView>(halves) : std::span<const MatrixView>(&plain, 1),
      kernel.layout, DType::kBF16, kind, pool, packed.data());
  Buffer scratch = Buffer::host(kernel.scratch_bytes(k));
  const int64_t columns = gated ? n / 2 : n;
  const Values y(DType::kF32, {end - begin, columns});
  cpu::LinearTask task{};
  task.x = x.rows(begin, end).data;
  task.x_stride = k;
  task.m = end - begin;
  task.w = packed.data();
  task.n = n;
  task.k = k;
  task.gate_up = gated;
  task.finish = gated ? cpu::Finish::kSiluMul : cpu::Finish::kStore;
  task.y = y.tensor().data;
  task.y_stride = columns;
  const int64_t units = cpu::linear_units(kernel.layout, n, kind);
  kernel.run(task, 0, units / 2, {scratch.data(), scratch.size()});
  kernel.run(task, units / 2, units, {scratch.data(), scratch.size()});
  return y.floats();
}

TEST(AmxTest, ScalarTilesMatchDoubleAndDoNotDependOnTheBatch) {
  bool has_avx512_bf16 = false;
  for (const std::string& isa : available_isas()) has_avx512_bf16 |= isa == "avx512_bf16";
  if (!has_avx512_bf16) GTEST_SKIP() << "the tile code is compiled for AVX-512 BF16";
  const cpu::LinearKernel kernel = cpu::scalar_tile_kernels().linear_bf16;
  for (const int64_t k : {int64_t{31}, int64_t{70}, int64_t{1100}}) {
    for (const LinearKind kind : {LinearKind::kPlain, LinearKind::kGateUp}) {
      const int64_t m = 53;
      const int64_t n = 150;
      const Values x(DType::kBF16, {m, k}, random_values(m * k, 1));
      const Values w(DType::kBF16, {n, k}, random_values(n * k, 2, 0.1F));
      const std::vector<float> whole = run(kernel, x, w, kind, 0, m);
      std::vector<float> parts;
      for (int64_t row = 0, count = 1; row < m; row += count, count += 4) {
        const std::vector<float> some = run(kernel, x, w, kind, row, std::min(m, row + count));
        parts.insert(parts.end(), some.begin(), some.end());
      }
      EXPECT_EQ(parts, whole) << "K " << k;

      const std::vector<float> xs = x.floats();
      const std::vector<float> ws = w.floats();
      const int64_t columns = kind == LinearKind::kGateUp ? n / 2 : n;
      std::vector<double> expected;
      for (int64_t r = 0; r < m; ++r) {
        const auto dot = [&](int64_t row) {
          double sum = 0;
          for (int64_t i = 0; i < k; ++i) {
            sum += double{xs[static_cast<size_t>(r * k + i)]} *
                   double{ws[static_cast<size_t>(row * k + i)]};
          }
          return sum;
        };
        for (int64_t c = 0; c < columns; ++c) {
          const double value = dot(c);
          expected.push_back(kind == LinearKind::kPlain
                                 ? value
                                 : value / (1 + std::exp(-value)) * dot(columns + c));
        }
      }
      EXPECT_LE(relative_l2(whole, expected), tolerance(DType::kF32)) << "K " << k;
    }
  }
}

/// m rows of x times w by one kernel of codes.
std::vector<float> run_codes(const cpu::LinearKernel& kernel, const Values& x, const CodeRows& w,
                             int64_t m) {
  ThreadPool pool(1);
  const CodeRows* blocks[] = {&w};
  Buffer packed = Buffer::host(
      cpu::packed_code_bytes(kernel.layout, w.rows(), w.cols(), w.format(), LinearKind::kPlain));
  cpu::pack_code_rows(blocks, kernel.layout, LinearKind::kPlain, pool, packed.data());
  Buffer scratch = Buffer::host(kernel.scratch_bytes(w.cols()));
  const Values y(DType::kF32, {m, w.rows()});
  cpu::LinearTask task{};
  task.x = x.tensor().data;
  task.x_bf16 = x.tensor().dtype == DType::kBF16;
  task.x_stride = w.cols();
  task.m = m;
  task.w = packed.data();
  task.codes = cpu::code_layout(w.format());
  task.n = w.rows();
  task.k = w.cols();
  task.y = y.tensor().data;
  task.y_stride = w.rows();
  EXPECT_LE(m, kernel.block_rows(w.cols()));
  const int64_t units = cpu::linear_units(kernel.layout, w.rows(), LinearKind::kPlain);
  kernel.run(task, 0, units, {scratch.data(), scratch.size()});
  return y.floats();
}

TEST(AmxTest, ScalarTilesOfCodesGiveTheBitsOfTheOtherTables) {
  bool has_avx512_bf16 = false;
  for (const std::string& isa : available_isas()) has_avx512_bf16 |= isa == "avx512_bf16";
  if (!has_avx512_bf16) GTEST_SKIP() << "the tile code is compiled for AVX-512 BF16";
  const cpu::Kernels tiled = cpu::scalar_tile_kernels();
  uint32_t seed = 0;
  for (const size_t type : {0U, 1U}) {
    for (const size_t inputs : {0U, 1U}) {
      for (const int32_t group : {0, 32, 64, 128}) {
        for (const int64_t m : {1, 15, 16, 17, 32, 37, 53}) {
          const bool has_min = ++seed % 2 == 0;
          const int64_t n = 33 + 7 * (seed % 11);
          const int64_t k = 30 + 37 * (seed % 13);
          SCOPED_TRACE(testing::Message() << "type " << type << " inputs " << inputs << " group "
                                          << group << " M " << m << " N " << n << " K " << k);
          const RandomCodes w(
              {type == 0 ? CodeType::kInt8 : CodeType::kInt4, group, has_min, DType::kBF16}, n, k,
              seed);
          std::vector<float> values = random_values(m * k, seed);
          if (seed % 5 == 0) values[static_cast<size_t>(k / 2)] = INFINITY;
          const Values x(seed % 3 == 0 ? DType::kF32 : DType::kBF16, {m, k}, values);
          const std::vector<float> y = run_codes(tiled.linear_codes[type][inputs], x, w, m);
          const std::vector<float> expected =
              run_codes(cpu::avx512_bf16_kernels()->linear_codes[type][inputs], x, w, m);
          ASSERT_EQ(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)), 0);
        }
      }
    }
  }
}

}  // namespace
}  // namespace erne::test
