#include "cpu/pack_ccq.h"

#include <cstring>

namespace erne::cpu {
namespace {

int64_t groups_of(int64_t k) { return (k + kCcqGroup - 1) / kCcqGroup; }
int64_t words_of(CodeType type) { return type == CodeType::kCcq25 ? 5 : 4; }

/// Bytes of a group over the panel.
int64_t group_bytes(const WeightLayout& layout, CodeType type) {
  return layout.panel * words_of(type) * 4 + (type == CodeType::kCcq2 ? layout.panel / 2 : 0);
}

}  // namespace

int64_t ccq_panel_bytes(const WeightLayout& layout, CodeType type, int64_t k) {
  const int64_t constants = type == CodeType::kCcq25 ? 1 : 3;
  return groups_of(k) * group_bytes(layout, type) + layout.panel * constants * 4;
}

CcqPacker::CcqPacker(const WeightLayout& layout, CodeType type, int64_t k)
    : layout_(layout), type_(type), k_(k), bytes_(static_cast<size_t>(ccq_row_bytes(type, k))) {}

void CcqPacker::pack(const CodeRows& source, int64_t source_row, int64_t row, uint8_t* panel) {
  const CcqConstants constants = source.read_ccq(source_row, bytes_.data());
  const int64_t panel_rows = layout_.panel;
  const int64_t words = words_of(type_);
  const int64_t groups = groups_of(k_);
  const uint8_t* src = bytes_.data();
  const uint8_t* locals = src + groups * words * 4;  // of kCcq2
  for (int64_t g = 0; g < groups; ++g, panel += group_bytes(layout_, type_)) {
    for (int64_t i = 0; i < words; ++i, src += 4)
      std::memcpy(panel + (i * panel_rows + row) * 4, src, 4);
    if (type_ == CodeType::kCcq25) continue;
    const int local = g % 2 == 0 ? locals[g / 2] >> 4 : locals[g / 2] & 15;
    uint8_t& pair = panel[words * panel_rows * 4 + row % (panel_rows / 2)];
    pair = static_cast<uint8_t>(pair | (row < panel_rows / 2 ? local : local << 4));
  }
  const float values[] = {constants.super, constants.code_scale, constants.code_zp};
  for (int64_t i = 0; i < (type_ == CodeType::kCcq25 ? 1 : 3); ++i)
    std::memcpy(panel + (i * panel_rows + row) * 4, values + i, 4);
}

}  // namespace erne::cpu
