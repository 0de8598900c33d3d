#include "gpu/gpu_device.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "gpu/kernels/attention.h"
#include "gpu/kernels/linear.h"
#include "gpu/kernels/route.h"
#include "gpu/kernels/rows.h"
#include "gpu/kernels/sample.h"
#include "gpu/kv_layout.h"
#include "gpu/memory.h"
#include "gpu/step_input.h"
#include "gpu/token_drawer.h"
#include "gpu/weight_layout.h"

namespace erne {
namespace gpu {
namespace {

// Memory a multiprocessor for attention over cut contexts; without room for a step's chunks a block
// takes them all.
constexpr size_t kPartialBytes = size_t{256} << 10;

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

// Element type of a table as the device holds it, which is exact.
DType table_type(const MatrixView& table) {
  if (table.dtype == DType::kU16) return DType::kBF16;
  return table.dtype == DType::kBF16 || table.dtype == DType::kF16 ? table.dtype : DType::kF32;
}

class GpuDevice final : public Device {
 public:
  GpuDevice(int index, int threads)
      : index_(index),
        card_(open_card(index)),
        pool_(threads),
        stream_(create_stream()),
        uploader_(stream_.get()),
        input_(stream_.get()),
        drawer_(stream_.get()),
        info_{fmt::format("{}:{}", card_.kind, index),
              fmt::format("{}, {}", card_.name, card_.detail), card_.memory_bytes} {}

  const DeviceInfo& info() const override { return info_; }
  Buffer allocate(size_t bytes) override {
    bind_card(index_);
    return device_buffer(bytes);
  }
  std::optional<uint64_t> own_free_bytes() const override {
    bind_card(index_);
    return free_bytes();
  }
  Buffer upload(std::span<const float> values) override;
  Tensor to_host(const Tensor& t) override;
  void fill(Buffer& buffer, uint8_t byte) override {
    gpu::fill(stream_.get(), buffer.data(), byte, buffer.size());
  }
  Linear pack_linear(std::span<const MatrixView> blocks, DType dtype, LinearKind kind,
                     std::span<const float> bias) override;
  Linear pack_codes(std::span<const CodeRows* const> blocks, DType dtype, Inputs inputs,
                    LinearKind kind, std::span<const float> bias) override;
  size_t linear_bytes(int64_t n, int64_t k, DType dtype, LinearKind) const override {
    return weight_bytes(float_shape(n, k, dtype));
  }
  size_t code_bytes(int64_t n, int64_t k, const CodeFormat& format, LinearKind) const override {
    return weight_bytes(code_shape(n, k, format));
  }
  Experts group_experts(std::vector<Linear> linears) override;
  Embedding pack_embedding(const MatrixView& table) override;
  size_t embedding_bytes(const MatrixView& table) const override {
    return static_cast<size_t>(table.rows * table.cols) * dtype_bytes(table_type(table));
  }
  size_t kv_block_bytes(const KvCacheSpec& spec) const override { return block_bytes(spec); }
  KvCache make_kv_cache(const KvCacheSpec& spec, int32_t num_blocks) override;

  void begin_step(const Batch& batch) override {
    bind_card(index_);
    input_.begin(batch);
  }
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
  bool draws(int64_t vocab) const override { return vocab <= kMostDrawnVocab; }
  std::span<const int32_t> draw(const Tensor& logits, std::span<const Draw> draws,
                                std::span<const LogitEdit> edits) override {
    return drawer_.draw(logits, draws, edits);
  }
  void synchronize() override { gpu::synchronize(stream_.get()); }

 private:
  struct DropStream {
    void operator()(StreamHandle* stream) const { destroy_stream(stream); }
  };

  Buffer upload_bytes(const void* source, size_t bytes);
  /// data of shape_of(w) and the bias.
  void allocate_weight(Linear& w, std::span<const float> bias);
  void copy_matrix(const MatrixView& view, DType dtype, int64_t row_bytes, uint8_t* target);
  void copy_codes(const CodeRows& rows, const WeightShape& shape, int64_t first_row, uint8_t* data);

  int index_;
  Card card_;
  ThreadPool pool_;
  std::unique_ptr<StreamHandle, DropStream> stream_;
  Uploader uploader_;
  StepInput input_;
  TokenDrawer drawer_;
  Pinned host_copy_;
  size_t host_copy_bytes_ = 0;
  Buffer partials_;
  DeviceInfo info_;
};

// --- memory

Buffer GpuDevice::upload_bytes(const void* source, size_t bytes) {
  bind_card(index_);
  Buffer buffer = device_buffer(bytes);
  uploader_.copy(buffer.data(), source, bytes);
  return buffer;
}

Buffer GpuDevice::upload(std::span<const float> values) {
  return upload_bytes(values.data(), values.size_bytes());
}

Tensor GpuDevice::to_host(const Tensor& t) {
  const size_t bytes = t.bytes();
  if (bytes > host_copy_bytes_) {
    synchronize();
    host_copy_.reset();
    host_copy_bytes_ = 0;
    host_copy_.reset(static_cast<uint8_t*>(allocate_pinned(bytes)));
    host_copy_bytes_ = bytes;
  }
  if (bytes > 0) copy_to_host(stream_.get(), host_copy_.get(), t.data, bytes);
  synchronize();
  return {host_copy_.get(), t.dtype, t.shape};
}

void GpuDevice::allocate_weight(Linear& w, std::span<const float> bias) {
  ERNE_CHECK(bias.empty() || static_cast<int64_t>(bias.size()) == w.n, "bias of {} for {} rows",
             bias.size(), w.n);
  bind_card(index_);
  w.data = device_buffer(weight_bytes(shape_of(w)));
  w.bias = upload(bias);
}

void GpuDevice::copy_matrix(const MatrixView& view, DType dtype, int64_t row_bytes,
                            uint8_t* target) {
  const auto used = static_cast<size_t>(view.cols) * dtype_bytes(dtype);
  const auto stride = static_cast<size_t>(row_bytes);
  uploader_.copy_rows(target, view.rows, stride, [&](int64_t first, int64_t count, uint8_t* to) {
    pool_.parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
      std::vector<float> row(static_cast<size_t>(view.cols));
      for (int64_t r = begin; r < end; ++r) {
        uint8_t* place = to + static_cast<size_t>(r) * stride;
        read_row_f32(view, first + r, row.data());
        convert_from_f32(row.data(), dtype, place, row.size());
        std::memset(place + used, 0, stride - used);
      }
    });
  });
}

Linear GpuDevice::pack_linear(std::span<const MatrixView> blocks, DType dtype, LinearKind kind,
                              std::span<const float> bias) {
  ERNE_CHECK(!blocks.empty());
  ERNE_CHECK(kind == LinearKind::kPlain ||
             (blocks.size() == 2 && blocks[0].rows == blocks[1].rows));
  Linear w;
  w.k = blocks[0].cols;
  w.dtype = dtype;
  w.kind = kind;
  for (const MatrixView& block : blocks) {
    ERNE_CHECK(block.cols == w.k, "{} columns beside {}", block.cols, w.k);
    w.n += block.rows;
  }
  allocate_weight(w, bias);
  auto* place = w.data.as<uint8_t>();
  const int64_t row_bytes = shape_of(w).row_bytes;
  for (const MatrixView& block : blocks) {
    copy_matrix(block, dtype, row_bytes, place);
    place += block.rows * row_bytes;
  }
  return w;
}

// The scales and minima of all rows are kept while the codes go over, then follow.
void GpuDevice::copy_codes(const CodeRows& rows, const WeightShape& shape, int64_t first_row,
                           uint8_t* data) {
  const auto groups = static_cast<size_t>(shape.groups);
  const size_t set_bytes = groups * dtype_bytes(shape.scale_type);
  std::vector<uint8_t> scales(static_cast<size_t>(rows.rows()) * set_bytes);
  std::vector<uint8_t> mins(shape.has_min ? scales.size() : 0);
  const auto row_bytes = static_cast<size_t>(shape.row_bytes);
  uploader_.copy_rows(
      data + first_row * shape.row_bytes, rows.rows(), row_bytes,
      [&](int64_t first, int64_t count, uint8_t* to) {
        pool_.parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
          std::vector<int8_t> codes(static_cast<size_t>(shape.k));
          std::vector<float> row_scales(groups), row_mins(groups);
          for (int64_t r = begin; r < end; ++r) {
            rows.read(first + r, codes.data(), row_scales.data(), row_mins.data());
            store_codes(shape, codes.data(), to + static_cast<size_t>(r) * row_bytes);
            const size_t at = static_cast<size_t>(first + r) * set_bytes;
            convert_from_f32(row_scales.data(), shape.scale_type, scales.data() + at, groups);
            if (shape.has_min)
              convert_from_f32(row_mins.data(), shape.scale_type, mins.data() + at, groups);
          }
        });
      });
  const size_t before = static_cast<size_t>(first_row) * set_bytes;
  uploader_.copy(data + shape.scales_offset + before, scales.data(), scales.size());
  uploader_.copy(data + shape.mins_offset + before, mins.data(), mins.size());
}

Linear GpuDevice::pack_codes(std::span<const CodeRows* const> blocks, DType dtype, Inputs inputs,
                             LinearKind kind, std::span<const float> bias) {
  ERNE_CHECK(!blocks.empty() && (dtype == DType::kF32 || dtype == DType::kBF16));
  ERNE_CHECK(kind == LinearKind::kPlain ||
             (blocks.size() == 2 && blocks[0]->rows() == blocks[1]->rows()));
  const CodeFormat& format = blocks[0]->format();
  if (std::max(inputs, format.inputs) != Inputs::kFull && format.type != CodeType::kFp8) {
    fail(Code::kUnsupported,
         "inputs of 8 bits (w4a8, w8a8, --act-dtype int8) are not available on a GPU in this "
         "version");
  }
  if (format.rotation != 1) {
    fail(Code::kUnsupported, "rotated inputs are not available on a GPU in this version");
  }
  Linear w;
  w.k = blocks[0]->cols();
  w.dtype = dtype;
  w.codes = format;
  w.inputs = inputs;
  w.kind = kind;
  for (const CodeRows* block : blocks) {
    ERNE_CHECK(block->cols() == w.k, "{} columns beside {}", block->cols(), w.k);
    ERNE_CHECK(block->format() == *w.codes, "blocks of one weight in different formats");
    w.n += block->rows();
  }
  allocate_weight(w, bias);
  const WeightShape shape = shape_of(w);
  int64_t first_row = 0;
  for (const CodeRows* block : blocks) {
    copy_codes(*block, shape, first_row, w.data.as<uint8_t>());
    first_row += block->rows();
  }
  return w;
}

Experts GpuDevice::group_experts(std::vector<Linear> linears) {
  Experts experts;
  std::vector<WeightData> places;
  for (const Linear& w : linears) {
    ERNE_CHECK(w.n == linears[0].n && w.k == linears[0].k && w.dtype == linears[0].dtype &&
                   w.kind == linears[0].kind,
               "an expert [{}, {}] beside [{}, {}]", w.n, w.k, linears[0].n, linears[0].k);
    if (w.codes != linears[0].codes) {
      fail(Code::kUnsupported,
           "the experts of one layer are quantised in different formats: a GPU takes one for all");
    }
    places.push_back({w.data.as<uint8_t>(), w.bias.as<float>()});
  }
  experts.index = upload_bytes(places.data(), places.size() * sizeof(WeightData));
  experts.linears = std::move(linears);
  return experts;
}

Embedding GpuDevice::pack_embedding(const MatrixView& table) {
  const DType dtype = table_type(table);
  bind_card(index_);
  Embedding embedding;
  embedding.data = device_buffer(embedding_bytes(table));
  const auto row_bytes = table.cols * static_cast<int64_t>(dtype_bytes(dtype));
  copy_matrix(table, dtype, row_bytes, embedding.data.as<uint8_t>());
  embedding.view = {embedding.data.data(), dtype, table.rows, table.cols, table.cols, 1};
  return embedding;
}

KvCache GpuDevice::make_kv_cache(const KvCacheSpec& spec, int32_t num_blocks) {
  ERNE_CHECK(num_blocks >= 0);
  bind_card(index_);
  if (partials_.empty())
    partials_ = device_buffer(kPartialBytes * static_cast<size_t>(card_.multiprocessors));
  return {spec, num_blocks, device_buffer(block_bytes(spec) * static_cast<size_t>(num_blocks))};
}

// --- one step

void GpuDevice::embed(const Embedding& table, std::span<const int32_t> ids, const Tensor& x) {
  run_embed(stream_.get(), {table.data.data(), table.view.dtype, input_.on_device(ids), x.dim(0),
                            x.dim(1), x.ptr<float>()});
}

void GpuDevice::rms_norm(const Tensor& x, std::span<const int32_t> rows, const float* w, float eps,
                         const Tensor& y) {
  const int32_t* picked = rows.empty() ? nullptr : input_.on_device(rows);
  run_rms_norm(stream_.get(), {x.ptr<float>(), picked, w, eps, y.dim(0), y.dim(1), y.data,
                               y.dtype == DType::kBF16});
}

LinearCall linear_call(const Tensor& x, const Linear& w, Epilogue epilogue, const Tensor& y) {
  return {shape_of(w),         x.data, x.dtype == DType::kBF16, x.dim(0),
          to_finish(epilogue), y.data, y.dtype == DType::kBF16};
}

void GpuDevice::linear(const Tensor& x, const Linear& w, Epilogue epilogue, const Tensor& y) {
  run_linear(stream_.get(), linear_call(x, w, epilogue, y),
             {w.data.as<uint8_t>(), w.bias.as<float>()});
}

void GpuDevice::rope_store(const Tensor& qkv, const Batch& batch, const RopeArgs& args,
                           KvCache& cache) {
  run_rope_store(stream_.get(), {qkv.data, qkv.dtype == DType::kBF16, args.num_heads, args.inv_freq,
                                 input_.arrays(batch), kv_layer(cache, args.layer)});
}

void GpuDevice::attention(const Tensor& qkv, const Batch& batch, const AttentionArgs& args,
                          const KvCache& cache, const Tensor& out) {
  AttentionCall call{qkv.data,   qkv.dtype == DType::kBF16, args.num_heads,
                     args.scale, input_.arrays(batch),      kv_layer(cache, args.layer),
                     out.data};
  const int64_t chunks = (input_.longest() + kChunk - 1) / kChunk;
  const bool fills = batch.num_tokens() * cache.spec.kv_heads >= 2 * card_.multiprocessors;
  const auto need =
      static_cast<size_t>(batch.num_tokens() * args.num_heads * chunks * (call.kv.row + 2)) *
      sizeof(float);
  if (chunks > 1 && !fills && need <= partials_.size()) {
    call.partials = partials_.as<float>();
    call.chunks = chunks;
  }
  run_attention(stream_.get(), call);
}

void GpuDevice::route(const Tensor& h, const RouterArgs& args, Routing& routing) {
  ERNE_CHECK(routing.num_experts <= kMostExperts, "{} experts: the GPU takes up to {}",
             routing.num_experts, kMostExperts);
  run_route(stream_.get(), {h.data, h.dtype == DType::kBF16, args.weight->ptr<float>(), args.bias,
                            routing.num_tokens, h.dim(1), routing.num_experts, routing.top_k,
                            args.norm_min, routing.expert_ids, routing.weights,
                            routing.expert_start, routing.slot_token, routing.slot_of});
}

void GpuDevice::expert_linear(const Tensor& x, ExpertRows rows, const Experts& experts,
                              const Routing& routing, Epilogue epilogue, const Tensor& y) {
  const int64_t slots = routing.num_tokens * routing.top_k;
  run_expert_linear(
      stream_.get(), linear_call(x, experts.linears[0], epilogue, y),
      {experts.index.as<WeightData>(), routing.expert_start,
       rows == ExpertRows::kByToken ? routing.slot_token : nullptr, routing.num_experts, slots});
}

void GpuDevice::expert_combine(const Tensor& y, const Routing& routing, const Tensor& x) {
  run_combine(stream_.get(), {y.ptr<float>(), routing.slot_of, routing.weights, routing.num_tokens,
                              routing.top_k, x.dim(1), x.ptr<float>()});
}

}  // namespace
}  // namespace gpu

std::unique_ptr<Device> make_gpu_device(int index, int threads) {
  return std::make_unique<gpu::GpuDevice>(index, threads);
}

}  // namespace erne
