#include "gpu/step_input.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace erne::gpu {
namespace {

// Elements: arrays start at multiples of 16 bytes.
size_t rounded(size_t count) { return (count + 3) / 4 * 4; }

}  // namespace

void StepInput::reserve(size_t count) {
  if (count <= size_) return;
  const size_t size = std::max(count, 2 * size_);
  packet_.reset();
  device_ = {};
  size_ = 0;
  packet_.reset(static_cast<uint8_t*>(allocate_pinned(size * sizeof(int32_t))));
  device_ = device_buffer(size * sizeof(int32_t));
  size_ = size;
}

void StepInput::begin(const Batch& batch) {
  const std::span<const int32_t> arrays[kArrays] = {batch.token_ids,   batch.positions,
                                                    batch.query_start, batch.context_len,
                                                    batch.block_table, batch.logit_rows};
  size_t total = 0;
  for (size_t i = 0; i < kArrays; ++i) {
    places_[i] = {arrays[i].data(), arrays[i].size(), total};
    total += rounded(arrays[i].size());
  }
  sequence_of_ = total;
  total += batch.token_ids.size();
  synchronize(stream_);
  reserve(total);
  auto* packet = reinterpret_cast<int32_t*>(packet_.get());
  for (size_t i = 0; i < kArrays; ++i)
    std::copy(arrays[i].begin(), arrays[i].end(), packet + places_[i].at);
  longest_ = 0;
  for (size_t s = 0; s < batch.context_len.size(); ++s) {
    std::fill(packet + sequence_of_ + batch.query_start[s],
              packet + sequence_of_ + batch.query_start[s + 1], static_cast<int32_t>(s));
    longest_ = std::max<int64_t>(longest_, batch.context_len[s]);
  }
  copy_to_device(stream_, device_.data(), packet, total * sizeof(int32_t));
}

const int32_t* StepInput::on_device(std::span<const int32_t> host) const {
  for (const Place& place : places_) {
    if (place.host == host.data() && place.count == host.size())
      return device_.as<int32_t>() + place.at;
  }
  ERNE_CHECK(false, "a span of {} that begin_step() was not told of", host.size());
  return nullptr;
}

StepArrays StepInput::arrays(const Batch& batch) const {
  StepArrays step;
  step.tokens = batch.num_tokens();
  step.positions = on_device(batch.positions);
  step.sequence_of = device_.as<int32_t>() + sequence_of_;
  step.query_start = on_device(batch.query_start);
  step.block_table = on_device(batch.block_table);
  step.max_blocks = batch.max_blocks;
  return step;
}

}  // namespace erne::gpu
