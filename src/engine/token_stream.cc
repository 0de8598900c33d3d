// The sink that programs read from with a blocking call.
#include "engine/engine.h"

namespace erne {

void TokenStream::on_output(Output output) {
  {
    const std::lock_guard lock(mutex_);
    outputs_.push_back(std::move(output));
  }
  ready_.notify_one();
}

std::optional<Output> TokenStream::next() {
  std::unique_lock lock(mutex_);
  if (open_choices_ == 0 && read_ == outputs_.size()) return std::nullopt;
  ready_.wait(lock, [&] { return read_ < outputs_.size(); });
  Output output = std::move(outputs_[read_++]);
  if (read_ == outputs_.size()) {
    outputs_.clear();
    read_ = 0;
  }
  if (output.finish) --open_choices_;
  return output;
}

}  // namespace erne
