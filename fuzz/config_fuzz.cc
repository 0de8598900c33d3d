// config.json and generation_config.json. The first byte picks; an accepted configuration must keep
// its own promises.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] == 'g') {
      for (const int32_t id : erne::GenerationConfig::parse(text, "input").eos_ids) {
        if (id < 0) __builtin_trap();
      }
      return 0;
    }
    const erne::TextConfig c = erne::TextConfig::parse(text, "input");
    const bool sound = c.num_layers > 0 && c.hidden_size > 0 && c.vocab_size > 0 &&
                       c.kv_heads > 0 && c.num_heads % c.kv_heads == 0 && c.head_dim > 0 &&
                       c.head_dim % 2 == 0 && c.moe_top_k <= c.num_experts &&
                       c.moe_layer_end < c.num_layers && c.num_active_parameters() > 0 &&
                       c.num_parameters() >= c.num_active_parameters();
    if (!sound) __builtin_trap();
    for (int i = 0; i < c.num_layers; ++i) c.is_moe_layer(i);
  } catch (const erne::Error&) {
  }
  return 0;
}
