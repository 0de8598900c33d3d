// The memory plan of `erne inspect --config`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace erne::cli {

enum class PlanFormat : uint8_t { kText, kJson };

/// Prints what the model of `config` (a config.json, or a folder with one) takes, and what of it
/// fits on a card of `card_bytes`.
void print_memory_plan(const std::filesystem::path& config, std::optional<uint64_t> card_bytes,
                       PlanFormat format);

}  // namespace erne::cli
