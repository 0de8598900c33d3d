// The text that `erne quantize --calibration` runs through the model: its file, its tokens and
// which of them are taken.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace erne::cli {

struct CalibrationTextFlags {
  std::string file;
  int64_t samples = 128;
  int64_t tokens = 2048;  ///< of a sample, at most
};

/// Token ids of at most flags.samples pieces of at most flags.tokens tokens, evenly spread over the
/// file. FILE.jsonl has an object a line, with "text", or with "messages" (and "tools") that the
/// folder's chat template renders; any other file is one text. Names of special tokens in a text
/// are plain text; a record longer than a sample is cut into several. Throws Error{kNotFound, kIo},
/// and Error{kInvalidArgument} naming file and line for what is empty, not UTF-8 or not such an
/// object.
std::vector<std::vector<int32_t>> read_calibration_text(const CalibrationTextFlags& flags,
                                                        const std::filesystem::path& model);

}  // namespace erne::cli
