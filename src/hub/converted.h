// A .gguf file as a Hugging Face folder: converted once, found again while the file stays the same.
#pragma once

#include <filesystem>
#include <functional>

namespace erne {

/// Writes the checkpoint in the file as a folder that does not exist yet.
using Converter =
    std::function<void(const std::filesystem::path& gguf, const std::filesystem::path& folder)>;

/// The folder under `cache` that belongs to this file (path, size and time of its last change),
/// made by `convert` if it is not there. It appears whole or not at all; a second process waits for
/// the first. Throws what `convert` throws, and Error{kIo}.
std::filesystem::path converted_folder(const std::filesystem::path& gguf,
                                       const std::filesystem::path& cache,
                                       const Converter& convert);

}  // namespace erne
