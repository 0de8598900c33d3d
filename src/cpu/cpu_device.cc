#include "cpu/cpu_device.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "cpu/attention.h"
#include "cpu/kv_cache.h"
#include "cpu/kv_channels.h"
#include "cpu/linear_inputs.h"
#include "cpu/pack.h"
#include "cpu/rope_table.h"
#include "cpu/routing.h"
#include "cpu/split.h"
#include "cpu/topology.h"
#include "cpu/workspace.h"
#include "tensor/host_pool.h"

namespace erne {
namespace cpu {
namespace {

Finish to_finish(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::kAdd:
      return Finish::kAdd;
    case Epilogue::kSiluMul:
      return Finish::kSiluMul;
    case Epilogue::kStore:
      break;
  }
  return Finish::kStore;
}

/// Physical memory, or this process's cgroup limit where that is lower.
uint64_t usable_memory() {
  const uint64_t physical = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                            static_cast<uint64_t>(::sysconf(_SC_PAGE_SIZE));
  std::ifstream file("/sys/fs/cgroup/memory.max");  // "max", or bytes
  uint64_t limit = 0;
  return file >> limit ? std::min(physical, limit) : physical;
}

class CpuDevice final : public Device {
 public:
  CpuDevice(const Kernels& kernels, Placement placement)
      : kernels_(kernels),
        memory_(std::move(placement.memory)),
        pool_(placement.num_threads, std::move(placement.threads)),
        workspace_(pool_.num_threads()) {
    info_ = {"cpu",
             fmt::format("{}, {}, {} threads{}", processor_name(), kernels_.name,
                         pool_.num_threads(), placement.text),
             usable_memory(), pool_.num_threads(), placement.num_nodes};
  }

  const DeviceInfo& info() const override { return info_; }
  Buffer allocate(size_t bytes) override { return Buffer::host(bytes); }
  Buffer upload(std::span<const float> values) override {
    Buffer buffer = Buffer::host(values.size_bytes());
    if (!values.empty()) std::memcpy(buffer.data(), values.data(), values.size_bytes());
    return buffer;
  }
  Tensor to_host(const Tensor& t) override { return t; }
  void fill(Buffer& buffer, uint8_t byte) override {
    if (!buffer.empty()) std::memset(buffer.data(), byte, buffer.size());
  }
  Linear pack_linear(std::span<const MatrixView> blocks, DType dtype, LinearKind kind,
                     std::span<const float> bias) override;
  Linear pack_codes(std::span<const CodeRows* const> blocks, DType dtype, Inputs inputs,
                    LinearKind kind, std::span<const float> bias) override;
  size_t code_bytes(int64_t n, int64_t k, const CodeFormat& format, LinearKind kind) const override;
  std::string weight_layout(DType dtype, const std::optional<CodeFormat>& codes) const override {
    return layout_name(codes ? code_kernel(codes->type, Inputs::kFull).layout
                             : float_kernel(dtype).layout);
  }
  Linear open_linear(const PackedWeight& w, Inputs inputs, WeightPlace place,
                     std::span<const float> bias) override;
  size_t linear_bytes(int64_t n, int64_t k, DType dtype, LinearKind kind) const override {
    return packed_bytes(float_kernel(dtype).layout, n, k, dtype, kind);
  }
  Experts group_experts(std::vector<Linear> linears) override { return {std::move(linears), {}}; }
  Embedding pack_embedding(const MatrixView& table) override { return {table, {}}; }
  size_t embedding_bytes(const MatrixView&) const override { return 0; }
  size_t kv_block_bytes(const KvCacheSpec& spec) const override {
    return static_cast<size_t>(kv_layout(spec).block_bytes);
  }
  KvCache make_kv_cache(const KvCacheSpec& spec, int32_t num_blocks) override;

  void begin_step(const Batch&) override {}
  void embed(const Embedding& table, std::span<const int32_t> ids, const Tensor& x) override;
  void rms_norm(const Tensor& x, std::span<const int32_t> rows, const float* w, float eps,
                const Tensor& y) override;
  void linear(const Tensor& x, const Linear& w, Epilogue epilogue, const Tensor& y) override;
  void rope_store(const Tensor& qkv, const Batch& batch, const RopeArgs& args,
                  KvCache& cache) override;
  void attention(const Tensor& qkv, const Batch& batch, const AttentionArgs& args,
                 const KvCache& cache, const Tensor& out) override;
  void route(const Tensor& h, const RouterArgs& args, Routing& routing) override;
  void expert_linear(const Tensor& x, ExpertRows rows, const Experts& experts,
                     const Routing& routing, Epilogue epilogue, const Tensor& y) override;
  void expert_combine(const Tensor& y, const Routing& routing, const Tensor& x) override;
  void bind_caller() override { pool_.bind_caller(); }
  void synchronize() override {}  // every call returns when its work is done

 private:
  const LinearKernel& float_kernel(DType dtype) const {
    return dtype == DType::kBF16 ? kernels_.linear_bf16 : kernels_.linear_f32;
  }
  const LinearKernel& code_kernel(CodeType type, Inputs inputs) const {
    return kernels_.linear_codes[static_cast<size_t>(type)][static_cast<size_t>(inputs)];
  }
  const LinearKernel& kernel(const Linear& w) const {
    return w.codes ? code_kernel(w.codes->type, w.inputs) : float_kernel(w.dtype);
  }
  /// Memory for the data of a weight.
  Buffer take(size_t bytes) {
    Buffer data = weights_.take(bytes);
    if (memory_.interleave_weights) memory_.interleave(data.data(), bytes);
    return data;
  }
  /// Bias and scratch of a weight whose data is packed.
  void finish_packing(Linear& linear, std::span<const float> bias);
  Tensor rotated(const Tensor& x, const Linear& w) {
    return rotation_.apply(x, w.codes ? w.codes->rotation : 1, kernels_, pool_);
  }
  static LinearTask linear_task(const Tensor& x, const Linear& w, Epilogue epilogue,
                                const Tensor& y);

  const Kernels& kernels_;
  MemoryNodes memory_;
  ThreadPool pool_;
  HostPool weights_;
  Workspace workspace_;
  RopeTable rope_;
  AttentionPlan attention_;
  ExpertShares expert_shares_;
  Rotation rotation_;
  DeviceInfo info_;
};

Linear CpuDevice::pack_linear(std::span<const MatrixView> blocks, DType dtype, LinearKind kind,
                              std::span<const float> bias) {
  ERNE_CHECK(!blocks.empty() && (dtype == DType::kF32 || dtype == DType::kBF16));
  ERNE_CHECK(kind == LinearKind::kPlain ||
             (blocks.size() == 2 && blocks[0].rows == blocks[1].rows));
  Linear linear;
  linear.k = blocks[0].cols;
  for (const MatrixView& block : blocks) {
    ERNE_CHECK(block.cols == linear.k, "{} columns beside {}", block.cols, linear.k);
    linear.n += block.rows;
  }
  linear.dtype = dtype;
  linear.kind = kind;
  linear.data = take(linear_bytes(linear.n, linear.k, dtype, kind));
  pack_weight(blocks, kernel(linear).layout, dtype, kind, pool_, linear.data.data());
  finish_packing(linear, bias);
  return linear;
}

Linear CpuDevice::pack_codes(std::span<const CodeRows* const> blocks, DType dtype, Inputs inputs,
                             LinearKind kind, std::span<const float> bias) {
  ERNE_CHECK(!blocks.empty() && (dtype == DType::kF32 || dtype == DType::kBF16));
  ERNE_CHECK(kind == LinearKind::kPlain ||
             (blocks.size() == 2 && blocks[0]->rows() == blocks[1]->rows()));
  Linear linear;
  linear.k = blocks[0]->cols();
  linear.codes = blocks[0]->format();
  for (const CodeRows* block : blocks) {
    ERNE_CHECK(block->cols() == linear.k, "{} columns beside {}", block->cols(), linear.k);
    ERNE_CHECK(block->format() == *linear.codes, "blocks of one weight in different formats");
    linear.n += block->rows();
  }
  linear.dtype = dtype;
  linear.inputs = std::max(inputs, linear.codes->inputs);
  check_inputs(*linear.codes, linear.inputs, linear.k);
  linear.input_absmax = common_absmax(blocks);
  linear.kind = kind;
  linear.data = take(code_bytes(linear.n, linear.k, *linear.codes, kind));
  pack_code_rows(blocks, kernel(linear).layout, kind, pool_, linear.data.data());
  finish_packing(linear, bias);
  return linear;
}

Linear CpuDevice::open_linear(const PackedWeight& w, Inputs inputs, WeightPlace place,
                              std::span<const float> bias) {
  if (w.layout != weight_layout(w.dtype, w.codes)) {
    fail(Code::kUnsupported, "weights of layout '{}'; this device reads '{}'", w.layout,
         weight_layout(w.dtype, w.codes));
  }
  const size_t bytes =
      w.codes ? code_bytes(w.n, w.k, *w.codes, w.kind) : linear_bytes(w.n, w.k, w.dtype, w.kind);
  if (w.data.size() != bytes)
    fail(Code::kCorrupt, "{} bytes for a weight of {}", w.data.size(), bytes);
  ERNE_CHECK(reinterpret_cast<uintptr_t>(w.data.data()) % 64 == 0);
  Linear linear;
  linear.n = w.n;
  linear.k = w.k;
  linear.dtype = w.dtype;
  linear.codes = w.codes;
  if (w.codes) {
    linear.inputs = std::max(inputs, w.codes->inputs);
    check_inputs(*w.codes, linear.inputs, linear.k);
  }
  linear.input_absmax = w.input_absmax;
  linear.kind = w.kind;
  if (place == WeightPlace::kMapped) {  // kernels only read: the mapping stays as it is
    linear.data = Buffer(const_cast<std::byte*>(w.data.data()), bytes, nullptr);
  } else {
    linear.data = take(bytes);
    const int64_t units = linear_units(kernel(linear).layout, w.n, w.kind);
    const auto unit_bytes = static_cast<int64_t>(bytes) / units;
    each_own_unit(pool_, units, [&](int64_t begin, int64_t end) {
      std::memcpy(linear.data.as<std::byte>() + begin * unit_bytes,
                  w.data.data() + begin * unit_bytes,
                  static_cast<size_t>((end - begin) * unit_bytes));
    });
  }
  finish_packing(linear, bias);
  return linear;
}

size_t CpuDevice::code_bytes(int64_t n, int64_t k, const CodeFormat& format,
                             LinearKind kind) const {
  code_layout(format);  // refuses what kernels do not take
  const LinearKernel& kernel = code_kernel(format.type, Inputs::kFull);
  ERNE_CHECK(kernel.run != nullptr, "codes of type {}", static_cast<int>(format.type));
  return packed_code_bytes(kernel.layout, n, k, format, kind);
}

void CpuDevice::finish_packing(Linear& linear, std::span<const float> bias) {
  ERNE_CHECK(bias.empty() || static_cast<int64_t>(bias.size()) == linear.n,
             "bias of {} for {} rows", bias.size(), linear.n);
  linear.bias = upload(bias);
  workspace_.reserve(kernel(linear).scratch_bytes(linear.k));
}

KvCache CpuDevice::make_kv_cache(const KvCacheSpec& spec, int32_t num_blocks) {
  ERNE_CHECK(num_blocks >= 0);
  Buffer data = Buffer::host(kv_block_bytes(spec) * static_cast<size_t>(num_blocks));
  memory_.interleave(data.data(), data.size());  // every thread reads every sequence's pages
  return {spec, num_blocks, std::move(data)};
}

void CpuDevice::embed(const Embedding& table, std::span<const int32_t> ids, const Tensor& x) {
  const int64_t width = x.dim(1);
  pool_.parallel_for(static_cast<int64_t>(ids.size()), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      read_row_f32(table.view, ids[static_cast<size_t>(t)], x.ptr<float>() + t * width);
    }
  });
}

void CpuDevice::rms_norm(const Tensor& x, std::span<const int32_t> rows, const float* w, float eps,
                         const Tensor& y) {
  const int64_t width = x.dim(1);
  const auto element = static_cast<int64_t>(dtype_bytes(y.dtype));
  pool_.parallel_for(y.dim(0), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t source = rows.empty() ? r : rows[static_cast<size_t>(r)];
      kernels_.rms_norm(x.ptr<float>() + source * width, w, eps, width,
                        y.ptr<uint8_t>() + r * width * element, y.dtype == DType::kBF16);
    }
  });
}

LinearTask CpuDevice::linear_task(const Tensor& x, const Linear& w, Epilogue epilogue,
                                  const Tensor& y) {
  LinearTask task{};
  task.x = x.data;
  task.x_stride = x.dim(1);
  task.m = x.dim(0);
  task.x_bf16 = x.dtype == DType::kBF16;
  task.w = w.data.data();
  if (w.codes) task.codes = code_layout(*w.codes);
  task.input_absmax = w.input_absmax;
  task.bias = w.bias.as<float>();
  task.n = w.n;
  task.k = w.k;
  task.gate_up = w.kind == LinearKind::kGateUp;
  task.finish = to_finish(epilogue);
  task.y = y.data;
  task.y_stride = y.dim(1);
  task.y_bf16 = y.dtype == DType::kBF16;
  return task;
}

void CpuDevice::linear(const Tensor& input, const Linear& w, Epilogue epilogue, const Tensor& y) {
  const LinearKernel& k = kernel(w);
  const Tensor x = rotated(input, w);
  const LinearTask task = linear_task(x, w, epilogue, y);
  run_linear(k, task, linear_units(k.layout, w.n, w.kind), pool_, workspace_);
}

void CpuDevice::rope_store(const Tensor& qkv, const Batch& batch, const RopeArgs& args,
                           KvCache& cache) {
  const KvCacheSpec& spec = cache.spec;
  const KvLayout layout = kv_layout(spec);
  const int64_t half = spec.head_dim / 2;
  const int64_t heads = args.num_heads + spec.kv_heads;
  const int64_t width = qkv.dim(1);
  const bool bf16 = qkv.dtype == DType::kBF16;
  const int64_t element = bf16 ? 2 : 4;
  rope_.prepare(args.inv_freq, half, batch.positions, pool_);
  uint8_t* layer = cache.data.as<uint8_t>() + args.layer * layout.layer_bytes;
  pool_.parallel_for(batch.num_tokens(), 16, [&](int64_t begin, int64_t end, int) {
    // The sequence of token `begin`: the last one that starts at or before it and is not empty.
    auto sequence = std::upper_bound(batch.query_start.begin(), batch.query_start.end(), begin) - 1;
    for (int64_t t = begin; t < end; ++t) {
      while (t >= *(sequence + 1)) ++sequence;
      const int32_t position = batch.positions[static_cast<size_t>(t)];
      uint8_t* row = qkv.ptr<uint8_t>() + t * width * element;
      kernels_.rotate(row, heads, half, rope_.cos(position), rope_.sin(position), bf16);
      if (args.channels) encode_channels(spec, args.num_heads, *args.channels, row, bf16);
      const int64_t s = sequence - batch.query_start.begin();
      const int64_t entry = s * batch.max_blocks + position / layout.block_tokens;
      store_kv(layout, layer, batch.block_table[static_cast<size_t>(entry)],
               position % layout.block_tokens, spec.kv_heads,
               row + int64_t{args.num_heads} * spec.head_dim * element, bf16);
    }
  });
}

void CpuDevice::attention(const Tensor& qkv, const Batch& batch, const AttentionArgs& args,
                          const KvCache& cache, const Tensor& out) {
  AttentionTask task{};
  task.qkv = qkv.data;
  task.bf16 = qkv.dtype == DType::kBF16;
  task.row_stride = qkv.dim(1);
  task.num_heads = args.num_heads;
  task.kv_heads = cache.spec.kv_heads;
  task.scale = args.scale;
  task.kv = kv_layout(cache.spec);
  task.cache = cache.data.as<uint8_t>() + args.layer * task.kv.layer_bytes;
  attention_.run(task, batch, kernels_, pool_, out.data);
  if (args.channels == nullptr) return;
  const auto row_bytes = out.dim(1) * static_cast<int64_t>(dtype_bytes(out.dtype));
  pool_.parallel_for(out.dim(0), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      decode_channels(cache.spec, args.num_heads, *args.channels,
                      out.ptr<uint8_t>() + t * row_bytes, task.bf16);
  });
}

void CpuDevice::route(const Tensor& h, const RouterArgs& args, Routing& routing) {
  const int64_t width = h.dim(1);
  const int64_t experts = routing.num_experts;
  workspace_.reserve(static_cast<size_t>(width + experts) * sizeof(float));
  const size_t element = dtype_bytes(h.dtype);
  pool_.parallel_for(routing.num_tokens, 4, [&](int64_t begin, int64_t end, int thread) {
    auto* x = static_cast<float*>(workspace_.of(thread).data);
    float* logits = x + width;
    for (int64_t t = begin; t < end; ++t) {
      convert_to_f32(h.ptr<uint8_t>() + static_cast<size_t>(t * width) * element, h.dtype, x,
                     static_cast<size_t>(width));
      kernels_.dot_rows(x, args.weight->ptr<float>(), experts, width, logits);
      choose_experts(logits, experts, args, routing.expert_ids + t * routing.top_k,
                     routing.weights + t * routing.top_k);
    }
  });
  group_by_expert(routing);
}

void CpuDevice::expert_linear(const Tensor& input, ExpertRows rows, const Experts& all,
                              const Routing& routing, Epilogue epilogue, const Tensor& y) {
  const std::vector<Linear>& experts = all.linears;
  const Tensor x = rotated(input, experts[0]);
  const LinearKernel& k = kernel(experts[0]);
  const int64_t units = linear_units(k.layout, experts[0].n, experts[0].kind);
  const int64_t max_rows = k.block_rows(experts[0].k);
  const auto x_row_bytes = x.dim(1) * static_cast<int64_t>(dtype_bytes(x.dtype));
  const auto y_row_bytes = y.dim(1) * static_cast<int64_t>(dtype_bytes(y.dtype));
  expert_shares_.plan({routing.expert_start, experts.size() + 1}, units);
  pool_.each_thread([&](int thread) {
    expert_shares_.each(pool_, thread, [&](size_t e, int64_t first, int64_t last) {
      const int64_t slot_end = routing.expert_start[e + 1];
      for (int64_t s = routing.expert_start[e]; first < last && s < slot_end; s += max_rows) {
        LinearTask task = linear_task(x, experts[e], epilogue, y);
        task.m = std::min<int64_t>(max_rows, slot_end - s);
        task.y = y.ptr<uint8_t>() + s * y_row_bytes;
        if (rows == ExpertRows::kByToken) {
          task.rows = routing.slot_token + s;
        } else {
          task.x = x.ptr<uint8_t>() + s * x_row_bytes;
        }
        k.run(task, first, last, workspace_.of(thread));
      }
    });
  });
}

void CpuDevice::expert_combine(const Tensor& y, const Routing& routing, const Tensor& x) {
  const int64_t width = x.dim(1);
  pool_.parallel_for(routing.num_tokens, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      kernels_.combine(x.ptr<float>() + t * width, y.data, y.dtype == DType::kBF16, width,
                       routing.slot_of + t * routing.top_k, routing.weights + t * routing.top_k,
                       routing.top_k);
    }
  });
}

}  // namespace
}  // namespace cpu

std::unique_ptr<Device> make_cpu_device(int num_threads, std::string_view isa, NumaPolicy numa) {
  const cpu::Kernels& kernels = cpu::select_kernels(isa);
  return std::make_unique<cpu::CpuDevice>(
      kernels, cpu::place_threads(cpu::Topology::of_machine(), num_threads, numa));
}

namespace cpu {

std::unique_ptr<Device> make_placed_device(std::string_view isa, Placement placement) {
  return std::make_unique<CpuDevice>(select_kernels(isa), std::move(placement));
}

}  // namespace cpu

}  // namespace erne
