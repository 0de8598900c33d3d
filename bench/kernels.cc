// Speed of the CPU device's operations at the shapes of real models, as GB/s and GFLOP/s and as
// shares of the machine's limits measured in the same run. Usage: bench_kernels [threads] [isa]
// [filter]
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "bench/roofline.h"
#include "cpu/cpu_device.h"

namespace erne {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Best seconds of one call among the calls made in about 0.15 s.
double best_seconds(const std::function<void()>& body) {
  body();
  double best = 1e9;
  const double stop = now_s() + 0.15;
  for (int run = 0; run < 3 || now_s() < stop; ++run) {
    const double start = now_s();
    body();
    best = std::min(best, now_s() - start);
  }
  return best;
}

struct Limits {
  double bytes_per_s, f32_per_s, bf16_per_s, int8_per_s;
};

void report_share(const std::string& name, double seconds, double bytes, double operations,
                  double peak, const Limits& limits) {
  fmt::print("{:<44} {:>9.1f} us {:>7.1f} GB/s {:>4.0f} % {:>8.1f} GFLOP/s {:>4.0f} %\n", name,
             seconds * 1e6, bytes / seconds / 1e9, 100 * bytes / seconds / limits.bytes_per_s,
             operations / seconds / 1e9, 100 * operations / seconds / peak);
}

void report(const std::string& name, double seconds, double bytes, double operations, DType dtype,
            const Limits& limits) {
  report_share(name, seconds, bytes, operations,
               dtype == DType::kBF16 ? limits.bf16_per_s : limits.f32_per_s, limits);
}

Tensor tensor(Buffer& owner, DType dtype, int64_t rows, int64_t cols) {
  owner = Buffer::host(static_cast<size_t>(rows * cols) * dtype_bytes(dtype));
  const std::vector<float> row(static_cast<size_t>(cols), 0.25F);
  for (int64_t r = 0; r < rows; ++r) {
    convert_from_f32(row.data(), dtype,
                     owner.as<uint8_t>() + static_cast<size_t>(r * cols) * dtype_bytes(dtype),
                     row.size());
  }
  return {owner.data(), dtype, {rows, cols}};
}

struct Shape2 {
  const char* name;
  int64_t n, k;
  LinearKind kind;
};

/// Seconds of one linear in a chain of different weights of one shape, larger than the caches, as
/// the layers of a model are.
double linear_seconds(Device& device, const std::vector<Linear>& weights, int64_t m, DType dtype) {
  const Linear& first = weights[0];
  const bool gated = first.kind == LinearKind::kGateUp;
  Buffer x_memory, y_memory;
  const Tensor x = tensor(x_memory, dtype, m, first.k);
  const Tensor y = tensor(y_memory, dtype, m, gated ? first.n / 2 : first.n);
  size_t next = 0;
  const int calls = m <= 16 ? static_cast<int>(weights.size()) : 1;
  return best_seconds([&] {
           for (int i = 0; i < calls; ++i) {
             device.linear(x, weights[next++ % weights.size()],
                           gated ? Epilogue::kSiluMul : Epilogue::kStore, y);
           }
         }) /
         calls;
}

size_t copies_of(size_t bytes) { return std::max<size_t>(1, (size_t{160} << 20) / bytes); }

void bench_linear(Device& device, const Shape2& shape, int64_t m, DType dtype,
                  const Limits& limits) {
  const size_t bytes = device.linear_bytes(shape.n, shape.k, dtype, shape.kind);
  std::vector<Linear> weights;
  const bf16 half = to_bf16(0.5F);
  const int64_t rows = shape.kind == LinearKind::kGateUp ? shape.n / 2 : shape.n;
  const MatrixView constant = {&half, DType::kBF16, rows, shape.k, 0, 0};
  const MatrixView blocks[] = {constant, constant};
  const std::span<const MatrixView> views(blocks, shape.kind == LinearKind::kGateUp ? 2 : 1);
  for (size_t i = 0; i < copies_of(bytes); ++i)
    weights.push_back(device.pack_linear(views, dtype, shape.kind, {}));
  const double seconds = linear_seconds(device, weights, m, dtype);
  const double operations = 2.0 * static_cast<double>(m * shape.n * shape.k);
  report(fmt::format("{} {} {}x{}x{}", dtype_name(dtype), shape.name, m, shape.n, shape.k), seconds,
         static_cast<double>(bytes), operations, dtype, limits);
}

/// Rows of one code and one scale.
class EqualCodes final : public CodeRows {
 public:
  using CodeRows::CodeRows;
  void read(int64_t, int8_t* codes, float* scales, float* mins) const override {
    const auto groups = static_cast<size_t>(format().groups(cols()));
    std::fill_n(codes, cols(), int8_t{1});
    std::fill_n(scales, groups, 0.5F);
    if (format().has_min) std::fill_n(mins, groups, 0.25F);
  }
};

const char* type_name(CodeType type) {
  return type == CodeType::kInt8 ? "int8" : type == CodeType::kInt4 ? "int4" : "fp8";
}

/// GFLOP/s as a share of the int8 peak, or of the bf16 peak where inputs are not rounded to int8.
void bench_codes(Device& device, const Shape2& shape, int64_t m, const CodeFormat& format,
                 Inputs inputs, const Limits& limits) {
  const size_t bytes = device.code_bytes(shape.n, shape.k, format, shape.kind);
  const bool gated = shape.kind == LinearKind::kGateUp;
  const EqualCodes rows(format, gated ? shape.n / 2 : shape.n, shape.k);
  const CodeRows* blocks[] = {&rows, &rows};
  std::vector<Linear> weights;
  for (size_t i = 0; i < copies_of(bytes); ++i) {
    weights.push_back(device.pack_codes({blocks, gated ? size_t{2} : size_t{1}}, DType::kBF16,
                                        inputs, shape.kind, {}));
  }
  const double seconds = linear_seconds(device, weights, m, DType::kBF16);
  report_share(fmt::format("{}/{}{} x {} {} {}x{}x{}", type_name(format.type), format.group,
                           format.has_min ? " min" : "", inputs == Inputs::kInt8 ? "int8" : "full",
                           shape.name, m, shape.n, shape.k),
               seconds, static_cast<double>(bytes),
               2.0 * static_cast<double>(m * shape.n * shape.k),
               inputs == Inputs::kInt8 ? limits.int8_per_s : limits.bf16_per_s, limits);
}

/// Packing at load, from row-major memory in another order than the kernels'.
void bench_pack(Device& device, DType source, DType dtype, const Limits& limits) {
  constexpr int64_t kRows = 16384;
  constexpr int64_t kColumns = 1024;
  Buffer memory;
  const Tensor weight = tensor(memory, source, kRows, kColumns);
  const MatrixView view = {weight.data, source, kRows, kColumns, kColumns, 1};
  const double seconds = best_seconds([&] {
    device.pack_linear({&view, 1}, dtype, LinearKind::kPlain, {});
  });
  const double bytes = static_cast<double>(
      kRows * kColumns * static_cast<int64_t>(dtype_bytes(source) + dtype_bytes(dtype)));
  report(fmt::format("pack {} to {} {}x{}", dtype_name(source), dtype_name(dtype), kRows, kColumns),
         seconds, bytes, 0, DType::kF32, limits);
}

struct AttentionShape {
  int heads, kv_heads, head_dim;
};

void bench_attention(Device& device, const AttentionShape& s, int32_t tokens, int32_t context,
                     DType dtype, DType cache_dtype, const Limits& limits) {
  const int64_t width = int64_t{s.heads + 2 * s.kv_heads} * s.head_dim;
  const KvCacheSpec spec = {1, s.kv_heads, s.head_dim, 16, cache_dtype};
  const int32_t blocks = context / 16 + 1;
  KvCache cache = device.make_kv_cache(spec, blocks);
  std::vector<float> inv_freq(static_cast<size_t>(s.head_dim / 2), 0.01F);
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  for (int32_t i = 0; i < blocks; ++i) table[static_cast<size_t>(i)] = i;
  std::vector<int32_t> positions(static_cast<size_t>(context));
  for (int32_t i = 0; i < context; ++i) positions[static_cast<size_t>(i)] = i;
  const auto batch_of = [&](int32_t count, std::vector<int32_t>& start, std::vector<int32_t>& len) {
    start = {0, count};
    len = {context};
    const std::span<const int32_t> last(positions.data() + context - count,
                                        static_cast<size_t>(count));
    return Batch{last, last, start, len, table, blocks, {}};
  };
  Buffer qkv_memory, out_memory;
  std::vector<int32_t> start, len;
  const Tensor all = tensor(qkv_memory, dtype, context, width);
  device.rope_store(all, batch_of(context, start, len), {0, s.heads, inv_freq.data()}, cache);
  const Tensor qkv = {all.data, dtype, {tokens, width}};
  const Tensor out = tensor(out_memory, dtype, tokens, int64_t{s.heads} * s.head_dim);
  const Batch batch = batch_of(tokens, start, len);
  const std::string shape = fmt::format("{} {}/{}x{} {} of {}", dtype_name(cache_dtype), s.heads,
                                        s.kv_heads, s.head_dim, tokens, context);
  const double rope = best_seconds([&] {
    device.rope_store(qkv, batch, {0, s.heads, inv_freq.data()}, cache);
  });
  const double element = static_cast<double>(dtype_bytes(dtype));
  report("rope_store " + shape, rope, static_cast<double>(tokens * width) * element * 2, 0, dtype,
         limits);
  const double seconds = best_seconds([&] {
    device.attention(qkv, batch, {0, s.heads, 0.125F}, cache, out);
  });
  const double pairs = static_cast<double>(tokens) * (context - (tokens - 1) / 2.0);
  report("attention " + shape, seconds,
         static_cast<double>(context) * s.kv_heads * s.head_dim * 2 *
             static_cast<double>(dtype_bytes(cache_dtype)),
         pairs * s.heads * s.head_dim * 4, dtype, limits);
}

void bench_rows(Device& device, int64_t tokens, int64_t width, const Limits& limits) {
  Buffer x_memory, y_memory;
  const Tensor x = tensor(x_memory, DType::kF32, tokens, width);
  const Tensor y = tensor(y_memory, DType::kBF16, tokens, width);
  const std::vector<float> w(static_cast<size_t>(width), 1.0F);
  const double seconds = best_seconds([&] { device.rms_norm(x, {}, w.data(), 1e-5F, y); });
  report(fmt::format("rms_norm {}x{}", tokens, width), seconds,
         static_cast<double>(tokens * width) * 6, 0, DType::kF32, limits);
}

void bench_dispatch(int threads) {
  ThreadPool pool(threads);
  constexpr int kCalls = 1000;
  const double seconds = best_seconds([&] {
    for (int i = 0; i < kCalls; ++i) pool.parallel_for(64, 1, [](int64_t, int64_t, int) {});
  });
  fmt::print("parallel_for of nothing: {:.2f} us\n", seconds / kCalls * 1e6);
}

/// `filter` keeps one type of codes, or all.
void bench_all_codes(Device& device, const std::string& filter, const Limits& limits) {
  const Shape2 shapes[] = {{"default down", 576, 1536, LinearKind::kPlain},
                           {"0.3B gate-up", 3072, 1024, LinearKind::kGateUp},
                           {"0.3B down", 1024, 3072, LinearKind::kPlain},
                           {"0.3B head", 103424, 1024, LinearKind::kPlain}};
  const CodeFormat formats[] = {
      {CodeType::kInt8, 0, false, DType::kF32},   {CodeType::kInt8, 32, false, DType::kF16},
      {CodeType::kInt4, 32, false, DType::kBF16}, {CodeType::kInt4, 32, true, DType::kBF16},
      {CodeType::kInt4, 128, true, DType::kBF16}, {CodeType::kFp8, 0, false, DType::kF32},
      {CodeType::kFp8, 128, false, DType::kF32}};
  for (const int64_t m : {int64_t{1}, int64_t{4}, int64_t{16}, int64_t{512}}) {
    for (const Shape2& shape : shapes) {
      if (m > 16 && shape.n > 20000) continue;
      bench_linear(device, shape, m, DType::kBF16, limits);  // what codes are compared with
      for (const CodeFormat& format : formats) {
        if (filter != "codes" && !filter.empty() && filter != type_name(format.type)) continue;
        for (const Inputs inputs : {Inputs::kFull, Inputs::kInt8}) {
          if (format.type == CodeType::kFp8 && inputs == Inputs::kInt8) continue;  // the same
          bench_codes(device, shape, m, format, inputs, limits);
        }
      }
    }
  }
}

void bench_all(int threads, const std::string& isa, const std::string& filter) {
  const bench::Roofline roofline = bench::measure_roofline(threads);
  fmt::print("{}\n", bench::to_table(roofline));
  const auto device = make_cpu_device(threads, isa);
  const bench::RooflinePoint& point = roofline.points.back();
  Limits limits = {point.read_gb_per_s * 1e9, 0, 0, 0};
  for (const bench::PeakRate& peak : point.peaks) {
    if (peak.isa != cpu::select_kernels(isa).name) continue;
    limits.f32_per_s = peak.f32_gflops * 1e9;
    limits.bf16_per_s = (peak.bf16_gflops > 0 ? peak.bf16_gflops : peak.f32_gflops) * 1e9;
    limits.int8_per_s = peak.int8_gops > 0 ? peak.int8_gops * 1e9 : limits.bf16_per_s;
  }
  const auto wanted = [&](const char* group) { return filter.empty() || filter == group; };
  bench_dispatch(threads);
  const Shape2 shapes[] = {{"default qkv", 960, 576, LinearKind::kPlain},
                           {"default o", 576, 576, LinearKind::kPlain},
                           {"default gate-up", 3072, 576, LinearKind::kGateUp},
                           {"default down", 576, 1536, LinearKind::kPlain},
                           {"default head", 49152, 576, LinearKind::kPlain},
                           {"0.3B gate-up", 6144, 1024, LinearKind::kGateUp},
                           {"0.3B down", 1024, 3072, LinearKind::kPlain},
                           {"0.3B head", 103424, 1024, LinearKind::kPlain},
                           {"21B expert gate-up", 3072, 2560, LinearKind::kGateUp}};
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    if (!wanted(dtype == DType::kBF16 ? "bf16" : "f32")) continue;
    for (const int64_t m : {int64_t{1}, int64_t{4}, int64_t{16}, int64_t{512}}) {
      for (const Shape2& shape : shapes) {
        if (m > 16 && shape.n > 20000) continue;
        bench_linear(*device, shape, m, dtype, limits);
      }
    }
  }
  const bool code_type = filter == "int8" || filter == "int4" || filter == "fp8";
  if (wanted("codes") || code_type) bench_all_codes(*device, filter, limits);
  if (wanted("attention")) {
    constexpr DType kBF16 = DType::kBF16;
    for (const AttentionShape& s : {AttentionShape{9, 3, 64}, {16, 2, 128}}) {
      for (const DType cache : {kBF16, DType::kI8, DType::kF8E4M3}) {
        bench_attention(*device, s, 1, 512, kBF16, cache, limits);
        bench_attention(*device, s, 1, 8192, kBF16, cache, limits);
        bench_attention(*device, s, 512, 512, kBF16, cache, limits);
      }
      bench_attention(*device, s, 512, 512, DType::kF32, DType::kF32, limits);
      bench_attention(*device, s, 2048, 2048, kBF16, kBF16, limits);
      bench_attention(*device, s, 2048, 8192, kBF16, kBF16, limits);
    }
  }
  if (wanted("pack")) {
    for (const DType source : {DType::kBF16, DType::kF32}) {
      for (const DType dtype : {DType::kBF16, DType::kF32})
        bench_pack(*device, source, dtype, limits);
    }
  }
  if (wanted("rows")) {
    for (const int64_t tokens : {1, 512}) bench_rows(*device, tokens, 1024, limits);
  }
}

}  // namespace
}  // namespace erne

int main(int argc, char** argv) {
  erne::bench_all(argc > 1 ? std::atoi(argv[1]) : 0, argc > 2 ? argv[2] : "",
                  argc > 3 ? argv[3] : "");
}
