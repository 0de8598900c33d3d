// A GGUF file: metadata of every type, the tensor table, dequantisation of the first row, and what
// a conversion makes of the metadata.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "base/error.h"
#include "model/config.h"
#include "model/gguf_config.h"
#include "model/gguf_tokenizer.h"
#include "model/weight_source.h"
#include "tensor/gguf.h"

namespace {

// Runs one step that may refuse the input.
template <typename Step>
void attempt(Step step) {
  try {
    step();
  } catch (const erne::Error&) {
  }
}

void first_rows(const erne::GgufFile& file) {
  constexpr int64_t kMostValues = 4096;
  for (const erne::GgufTensor& tensor : file.tensors()) {
    const int64_t block = erne::gguf_block(tensor.type).values;
    const int64_t n = std::min(tensor.shape.back(), kMostValues / block * block);
    std::vector<float> values(static_cast<size_t>(n));
    erne::dequantize(tensor.type, tensor.data, values.data(), n);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  attempt([&] {
    const erne::GgufFile file =
        erne::GgufFile::parse(std::as_bytes(std::span(data, size)), "input");
    first_rows(file);
    attempt([&] { erne::gguf_tokenizer(file); });
    attempt([&] { erne::gguf_generation_config(file); });
    attempt([&] {
      const auto json = erne::gguf_config(file, "");
      const erne::TextConfig config = erne::TextConfig::parse(
          json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace), "input");
      if (config.num_parameters() < 1'000'000) erne::gguf_source(file, config);
    });
  });
  return 0;
}
