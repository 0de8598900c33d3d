// The AMX linear on scalar tiles: its packing, tiling and order of sums, on machines without AMX.
#include <gtest/gtest.h>

#include "base/thread_pool.h"
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
  const cpu::LinearKernel kernel = cpu::scalar_tile_linear();
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

}  // namespace
}  // namespace erne::test
