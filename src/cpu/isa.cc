#include "cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <array>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace erne {
namespace cpu {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"generic", "avx2", "avx512", "avx512_bf16",
                                                    "amx"};

#if defined(__x86_64__)

struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(uint32_t leaf, uint32_t subleaf) {
  Leaf r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

bool bit(uint32_t word, int index) { return (word >> index & 1U) != 0; }

/// XCR0: the register files that the operating system saves and restores.
uint64_t saved_state() {
  if (!bit(cpuid(1, 0).ecx, 27)) return 0;  // OSXSAVE
  uint32_t low = 0;
  uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

/// Linux hands out the tile registers on request only; some virtual machines announce AMX without
/// any palette.
bool amx_usable() {
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kTileData = 18;
  if ((saved_state() >> 17 & 3U) != 3U) return false;
  const Leaf palettes = cpuid(0x1D, 0);
  const Leaf palette = cpuid(0x1D, 1);
  const bool has_palette =
      palettes.eax >= 1 && palette.ebx >> 16 >= 8 && (palette.ecx & 0xFFFFU) >= 16;
  return has_palette && ::syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
}

/// Index into kNames of the best table that processor and operating system allow.
size_t best_level() {
  const Leaf one = cpuid(1, 0);
  const Leaf seven = cpuid(7, 0);
  const uint64_t state = saved_state();
  const bool ymm = (state & 0x6U) == 0x6U;
  const bool zmm = (state & 0xE6U) == 0xE6U;
  if (!ymm || !bit(seven.ebx, 5) || !bit(one.ecx, 12) || !bit(one.ecx, 29))
    return 0;  // AVX2 FMA F16C
  const bool avx512 =
      bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 30) && bit(seven.ebx, 31);
  if (!zmm || !avx512) return 1;  // F DQ BW VL
  if (!bit(cpuid(7, 1).eax, 5) || !bit(seven.ecx, 11) || !bit(seven.ecx, 1))
    return 2;  // AVX512_BF16 AVX512_VNNI AVX512_VBMI
  if (!bit(seven.edx, 22) || !bit(seven.edx, 24) || !amx_usable() || !amx_multiplies())
    return 3;  // AMX-BF16 AMX-TILE
  return 4;
}

#else

size_t best_level() { return 0; }

#endif

const Kernels* table(size_t level) {
  switch (level) {
    case 1:
      return avx2_kernels();
    case 2:
      return avx512_kernels();
    case 3:
      return avx512_bf16_kernels();
    case 4:
      return amx_kernels();
    default:
      return generic_kernels();
  }
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

const Kernels& select_kernels(std::string_view isa) {
  if (isa.empty()) {
    const char* forced = std::getenv("ERNE_ISA");
    if (forced != nullptr) isa = forced;
  }
  const std::vector<std::string> available = available_isas();
  if (isa.empty()) isa = available.back();
  for (size_t level = 0; level < kNames.size(); ++level) {
    if (kNames[level] != isa) continue;
    if (level > best_level() || table(level) == nullptr) {
      fail(Code::kUnsupported, "this machine cannot run ISA {}; it can run {}", isa,
           joined(available));
    }
    return *table(level);
  }
  fail(Code::kInvalidArgument, "no ISA is called \"{}\"; this machine can run {}", isa,
       joined(available));
}

std::string processor_name() {
#if defined(__x86_64__)
  if (cpuid(0x80000000U, 0).eax >= 0x80000004U) {
    std::array<char, 49> brand{};
    for (uint32_t i = 0; i < 3; ++i) {
      const Leaf part = cpuid(0x80000002U + i, 0);
      std::memcpy(brand.data() + 16 * i, &part, 16);
    }
    const std::string_view text(brand.data());
    const size_t first = text.find_first_not_of(' ');
    if (first != std::string_view::npos)
      return std::string(text.substr(first, text.find_last_not_of(' ') - first + 1));
  }
  return "x86-64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "CPU";
#endif
}

}  // namespace cpu

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (size_t level = 0; level <= cpu::best_level(); ++level) {
    if (cpu::table(level) != nullptr) names.emplace_back(cpu::kNames[level]);
  }
  return names;
}

}  // namespace erne
