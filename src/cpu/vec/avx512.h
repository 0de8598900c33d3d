// Sixteen floats in a 512-bit register: AVX-512 F, BW, DQ, VL. Included inside an ISA file's
// anonymous namespace's users only; every function is static so that no weak symbol leaves the
// file.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace erne::cpu {
namespace {

constexpr int kLanes = 16;
constexpr int kRegisters = 32;
using Floats = __m512;
using Words = __m512i;

inline Floats zero() { return _mm512_setzero_ps(); }
inline Floats set1(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
inline Words load_words(const void* p) { return _mm512_loadu_si512(p); }
inline void store_words(void* p, Words x) { _mm512_storeu_si512(p, x); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
/// a * b + c, rounded once.
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
/// b where a or b is NaN.
inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Words bits(Floats x) { return _mm512_castps_si512(x); }
inline Floats floats(Words x) { return _mm512_castsi512_ps(x); }
inline Words to_int(Floats x) { return _mm512_cvtps_epi32(x); }
/// The largest integer that is not above x.
inline Words floor_int(Floats x) {
  return _mm512_cvt_roundps_epi32(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
inline Floats to_float(Words x) { return _mm512_cvtepi32_ps(x); }
inline Words add_words(Words a, Words b) { return _mm512_add_epi32(a, b); }
inline Words or_words(Words a, Words b) { return _mm512_or_si512(a, b); }
inline Words and_words(Words a, Words b) { return _mm512_and_si512(a, b); }
inline Words xor_words(Words a, Words b) { return _mm512_xor_si512(a, b); }
inline Words set1_word(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
template <int kBits>
Words shift_left(Words x) {
  return _mm512_slli_epi32(x, kBits);
}
template <int kBits>
Words shift_right(Words x) {
  return _mm512_srli_epi32(x, kBits);
}
template <int kBits>
Words shift_right_signed(Words x) {
  return _mm512_srai_epi32(x, kBits);
}
/// Words 1 and 2 of every four exchanged.
inline Words swap_middle(Words x) {
  return _mm512_shuffle_epi32(x, static_cast<_MM_PERM_ENUM>(0xD8));
}
inline Words sub_words(Words a, Words b) { return _mm512_sub_epi32(a, b); }
/// The larger of signed words.
inline Words max_words(Words a, Words b) { return _mm512_max_epi32(a, b); }
/// Signed bytes 0 and 2, or 1 and 3, of every word as its halves.
inline Words even_bytes(Words x) { return _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8); }
inline Words odd_bytes(Words x) { return _mm512_srai_epi16(x, 8); }
/// c + the products of the low halves and of the high halves, signed.
inline Words dot_halves(Words a, Words b, Words c) {
  return _mm512_add_epi32(c, _mm512_madd_epi16(a, b));
}
// expand_e4m3(): e4m3fn codes exactly as bf16, bytes 0 and 2 of words to even; NaN becomes +-480.
#ifdef __AVX512VBMI__
/// Bytes of bf16 by the low seven bits of an e4m3fn code: [0] the low ones, [1] the high ones.
struct E4m3Bytes {
  alignas(64) uint8_t of[2][128];
  constexpr E4m3Bytes() : of() {
    constexpr uint16_t kSmall[] = {0, 0x3B00, 0x3B80, 0x3BC0, 0x3C00, 0x3C20, 0x3C40, 0x3C60};
    for (int code = 0; code < 128; ++code) {
      const int number = code < 8 ? kSmall[code] : 0x3C00 + code * 16;
      of[0][code] = static_cast<uint8_t>(number);
      of[1][code] = static_cast<uint8_t>(number >> 8);
    }
  }
};
constexpr E4m3Bytes kE4m3Bytes;
inline void expand_e4m3(Words x, Words* even, Words* odd) {
  const auto look_up = [&](const uint8_t* table) {
    return _mm512_permutex2var_epi8(load_words(table), x, load_words(table + 64));
  };
  const Words low = look_up(kE4m3Bytes.of[0]);
  const Words high =
      _mm512_ternarylogic_epi32(look_up(kE4m3Bytes.of[1]), x, set1_word(0x80808080U), 0xF8);
  constexpr __mmask64 kOddBytes = 0xAAAAAAAAAAAAAAAAU;
  *even = _mm512_mask_blend_epi8(kOddBytes, low, _mm512_slli_epi16(high, 8));
  *odd = _mm512_mask_blend_epi8(kOddBytes, _mm512_srli_epi16(low, 8), high);
}
#else
/// The exponent is rebiased by an addition; subnormals come from a table.
inline Words e4m3_subnormals() {  // by the low five bits of the code, of which the upper are zero
  return _mm512_zextsi128_si512(
      _mm_setr_epi16(0, 0x3B00, 0x3B80, 0x3BC0, 0x3C00, 0x3C20, 0x3C40, 0x3C60));
}
inline Words even_e4m3(Words x) {
  const Words normal =
      _mm512_add_epi16(_mm512_and_si512(_mm512_slli_epi16(x, 4), _mm512_set1_epi16(0x07F0)),
                       _mm512_set1_epi16(0x3C00));
  const Words magnitude = _mm512_mask_permutexvar_epi16(
      normal, _mm512_testn_epi16_mask(x, _mm512_set1_epi16(0x0078)), x, e4m3_subnormals());
  return _mm512_ternarylogic_epi32(_mm512_slli_epi16(x, 8), set1_word(0x80008000U), magnitude,
                                   0xEA);
}
inline Words odd_e4m3(Words x) {
  const Words normal =
      _mm512_add_epi16(_mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi16(0x07F0)),
                       _mm512_set1_epi16(0x3C00));
  const Words magnitude =
      _mm512_mask_permutexvar_epi16(normal, _mm512_testn_epi16_mask(x, _mm512_set1_epi16(0x7800)),
                                    _mm512_srli_epi16(x, 8), e4m3_subnormals());
  return _mm512_ternarylogic_epi32(x, set1_word(0x80008000U), magnitude, 0xEA);
}
inline void expand_e4m3(Words x, Words* even, Words* odd) {
  *even = even_e4m3(x);
  *odd = odd_e4m3(x);
}
#endif
/// `otherwise` where x is NaN.
inline Words unless_nan(Floats x, Words value, Words otherwise) {
  return _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), value, otherwise);
}
/// Lanes below count from x, the others from y.
inline Floats first_lanes(int64_t count, Floats x, Floats y) {
  return _mm512_mask_blend_ps(static_cast<__mmask16>((1U << count) - 1U), y, x);
}
/// kLanes bf16 as floats.
inline Floats load_bf16(const void* p) {
  return floats(
      shift_left<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)))));
}
/// kLanes float16 as floats.
inline Floats load_f16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
/// kLanes signed bytes as words.
inline Words load_signed_bytes(const void* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
/// The low bytes of the words.
inline void store_low_bytes(void* p, Words x) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
}
/// The low bytes of the words of x and y, four of x and four of y in turn.
inline void store_low_bytes_paired(void* p, Words x, Words y) {
  const __m128i low = _mm512_cvtepi32_epi8(x);
  const __m128i high = _mm512_cvtepi32_epi8(y);
  auto* to = static_cast<__m128i*>(p);
  _mm_storeu_si128(to, _mm_unpacklo_epi32(low, high));
  _mm_storeu_si128(to + 1, _mm_unpackhi_epi32(low, high));
}
/// The low halves of the words, whose high halves are zero.
inline void store_low_halves(void* p, Words x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
}
/// Neighbouring lanes exchanged; and the first half of the lanes, each twice.
inline Floats swap_pairs(Floats x) { return _mm512_permute_ps(x, 0xB1); }
inline Floats load_twice(const float* p) {
  const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
inline Floats negate_even(Floats x) {
  return floats(_mm512_xor_si512(bits(x), _mm512_set1_epi64(0x80000000LL)));
}
/// Sum and maximum of the lanes, halves first.
inline float sum_lanes(Floats x) {
  x = add(x, _mm512_shuffle_f32x4(x, x, 0x4E));
  x = add(x, _mm512_shuffle_f32x4(x, x, 0xB1));
  x = add(x, _mm512_permute_ps(x, 0x4E));
  return _mm512_cvtss_f32(add(x, swap_pairs(x)));
}
inline int32_t sum_words(Words x) {
  x = _mm512_add_epi32(x, _mm512_shuffle_i32x4(x, x, 0x4E));
  x = _mm512_add_epi32(x, _mm512_shuffle_i32x4(x, x, 0xB1));
  const __m128i four = _mm512_castsi512_si128(x);
  const __m128i pair = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32(pair, 0xB1)));
}
inline float max_lane(Floats x) {
  x = max(x, _mm512_shuffle_f32x4(x, x, 0x4E));
  x = max(x, _mm512_shuffle_f32x4(x, x, 0xB1));
  x = max(x, _mm512_permute_ps(x, 0x4E));
  return _mm512_cvtss_f32(max(x, swap_pairs(x)));
}
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
/// Into the second-level cache only.
inline void prefetch_second(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}

}  // namespace
}  // namespace erne::cpu
