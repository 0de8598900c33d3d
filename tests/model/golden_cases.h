// The text goldens: where they are, and a broken copy of one.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/json.h"

namespace erne {

inline const std::filesystem::path kCases =
    std::filesystem::path(ERNE_TESTS_DIR) / "goldens" / "text";
inline const char* const kCaseNames[] = {"dense-tied", "dense-bias", "moe", "moe-sharded"};

// A copy of a case with NaN as the first value of its embedding: row 0 of the tied head.
inline std::filesystem::path doctored_case(const std::string& name) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("erne_nan_" + name);
  std::filesystem::remove_all(folder);
  std::filesystem::copy(kCases / name, folder);
  const std::filesystem::path weights = folder / "model.safetensors";
  std::string bytes = read_file(weights);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  const Json header = parse_json(bytes.substr(8, header_bytes), "header");
  const auto begin = header.at("model.embed_tokens.weight").at("data_offsets").at(0).get<size_t>();
  bytes.replace(8 + header_bytes + begin, 4, "\xff\xff\xff\xff");  // NaN in float32 and bfloat16
  write_file(weights, bytes);
  return folder;
}

}  // namespace erne
