#include "gpu/token_drawer.h"

#include <algorithm>
#include <cstring>

#include "gpu/kernels/sample.h"

namespace erne::gpu {

// Nothing of a draw before is under way: draw() waited for it.
void TokenDrawer::reserve(size_t packet_bytes, size_t count) {
  if (packet_bytes > packet_bytes_) {
    const size_t bytes = std::max(packet_bytes, 2 * packet_bytes_);
    packet_bytes_ = 0;
    packet_.reset();
    packet_there_ = {};
    packet_.reset(static_cast<uint8_t*>(allocate_pinned(bytes)));
    packet_there_ = device_buffer(bytes);
    packet_bytes_ = bytes;
  }
  if (count > count_) {
    const size_t room = std::max(count, 2 * count_);
    count_ = 0;
    ids_.reset();
    ids_there_ = {};
    ids_.reset(static_cast<uint8_t*>(allocate_pinned(room * sizeof(int32_t))));
    ids_there_ = device_buffer(room * sizeof(int32_t));
    count_ = room;
  }
}

std::span<const int32_t> TokenDrawer::draw(const Tensor& logits, std::span<const Draw> draws,
                                           std::span<const LogitEdit> edits) {
  if (draws.empty()) return {};
  reserve(draws.size_bytes() + edits.size_bytes(), draws.size());
  std::memcpy(packet_.get(), draws.data(), draws.size_bytes());
  if (!edits.empty())
    std::memcpy(packet_.get() + draws.size_bytes(), edits.data(), edits.size_bytes());
  auto* there = packet_there_.as<uint8_t>();
  copy_to_device(stream_, there, packet_.get(), draws.size_bytes() + edits.size_bytes());
  run_sample(stream_, {logits.ptr<float>(), logits.dim(1), static_cast<int64_t>(draws.size()),
                       reinterpret_cast<const Draw*>(there),
                       reinterpret_cast<const LogitEdit*>(there + draws.size_bytes()),
                       ids_there_.as<int32_t>()});
  copy_to_host(stream_, ids_.get(), ids_there_.data(), draws.size() * sizeof(int32_t));
  synchronize(stream_);
  return {reinterpret_cast<const int32_t*>(ids_.get()), draws.size()};
}

}  // namespace erne::gpu
