// Eight floats in a 256-bit register: AVX2 and FMA. The same names as vec/avx512.h; every function
// is static so that no weak symbol leaves the file.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace erne::cpu {
namespace {

constexpr int kLanes = 8;
constexpr int kRegisters = 16;
using Floats = __m256;
using Words = __m256i;

inline Floats zero() { return _mm256_setzero_ps(); }
inline Floats set1(float x) { return _mm256_set1_ps(x); }
inline Floats load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
inline Words load_words(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline void store_words(void* p, Words x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
/// a * b + c, rounded once.
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
/// b where a or b is NaN.
inline Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline Words bits(Floats x) { return _mm256_castps_si256(x); }
inline Floats floats(Words x) { return _mm256_castsi256_ps(x); }
inline Words to_int(Floats x) { return _mm256_cvtps_epi32(x); }
/// The largest integer that is not above x.
inline Words floor_int(Floats x) { return _mm256_cvtps_epi32(_mm256_floor_ps(x)); }
inline Floats to_float(Words x) { return _mm256_cvtepi32_ps(x); }
inline Words add_words(Words a, Words b) { return _mm256_add_epi32(a, b); }
inline Words or_words(Words a, Words b) { return _mm256_or_si256(a, b); }
inline Words and_words(Words a, Words b) { return _mm256_and_si256(a, b); }
inline Words xor_words(Words a, Words b) { return _mm256_xor_si256(a, b); }
inline Words set1_word(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
template <int kBits>
Words shift_left(Words x) {
  return _mm256_slli_epi32(x, kBits);
}
template <int kBits>
Words shift_right(Words x) {
  return _mm256_srli_epi32(x, kBits);
}
template <int kBits>
Words shift_right_signed(Words x) {
  return _mm256_srai_epi32(x, kBits);
}
/// Words 1 and 2 of every four exchanged.
inline Words swap_middle(Words x) { return _mm256_shuffle_epi32(x, 0xD8); }
inline Words sub_words(Words a, Words b) { return _mm256_sub_epi32(a, b); }
/// The larger of signed words.
inline Words max_words(Words a, Words b) { return _mm256_max_epi32(a, b); }
/// Signed bytes 0 and 2, or 1 and 3, of every word as its halves.
inline Words even_bytes(Words x) { return _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8); }
inline Words odd_bytes(Words x) { return _mm256_srai_epi16(x, 8); }
/// c + the products of the low halves and of the high halves, signed.
inline Words dot_halves(Words a, Words b, Words c) {
  return _mm256_add_epi32(c, _mm256_madd_epi16(a, b));
}
/// Bytes 0 and 2 of every word as e4m3fn codes, exactly as bf16 in its halves, to `even`, and bytes
/// 1 and 3 to `odd`; 0x7F and 0xFF as +-480. The exponent is rebiased by an addition; subnormals
/// come from tables of low and of high bytes.
inline void expand_e4m3(Words x, Words* even, Words* odd) {
  const Words small_low = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 0, -0x80, -0x40, 0, 0x20, 0x40, 0x60, 0, 0, 0, 0, 0, 0, 0, 0));
  const Words small_high = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 0x3B, 0x3B, 0x3B, 0x3C, 0x3C, 0x3C, 0x3C, 0, 0, 0, 0, 0, 0, 0, 0));
  const Words magnitude = _mm256_and_si256(x, _mm256_set1_epi8(0x7F));
  const Words is_small = _mm256_cmpgt_epi8(_mm256_set1_epi8(8), magnitude);
  const Words normal_low =
      _mm256_and_si256(_mm256_slli_epi16(x, 4), _mm256_set1_epi8(static_cast<char>(0xF0)));
  const Words normal_high = _mm256_add_epi8(
      _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi8(0x07)), _mm256_set1_epi8(0x3C));
  const Words low =
      _mm256_blendv_epi8(normal_low, _mm256_shuffle_epi8(small_low, magnitude), is_small);
  const Words high = _mm256_or_si256(
      _mm256_blendv_epi8(normal_high, _mm256_shuffle_epi8(small_high, magnitude), is_small),
      _mm256_xor_si256(x, magnitude));
  const Words low_bytes = _mm256_set1_epi16(0x00FF);
  *even = _mm256_or_si256(_mm256_and_si256(low, low_bytes), _mm256_slli_epi16(high, 8));
  *odd = _mm256_or_si256(_mm256_srli_epi16(low, 8), _mm256_andnot_si256(low_bytes, high));
}
/// `otherwise` where x is NaN.
inline Words unless_nan(Floats x, Words value, Words otherwise) {
  return _mm256_blendv_epi8(value, otherwise, bits(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
/// Lanes below count from x, the others from y.
inline Floats first_lanes(int64_t count, Floats x, Floats y) {
  const Words lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_blendv_ps(
      y, x, floats(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane)));
}
/// kLanes bf16 as floats.
inline Floats load_bf16(const void* p) {
  return floats(
      shift_left<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)))));
}
/// kLanes signed bytes as words.
inline Words load_signed_bytes(const void* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
/// kLanes float16 as floats.
inline Floats load_f16(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
/// The low halves of the words, whose high halves are zero.
inline void store_low_halves(void* p, Words x) {
  const Words packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
/// Neighbouring lanes exchanged; and the first half of the lanes, each twice.
inline Floats swap_pairs(Floats x) { return _mm256_permute_ps(x, 0xB1); }
inline Floats load_twice(const float* p) {
  return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)),
                                  _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}
inline Floats negate_even(Floats x) {
  return floats(_mm256_xor_si256(bits(x), _mm256_set1_epi64x(0x80000000LL)));
}
/// Sum and maximum of the lanes, halves first.
inline float sum_lanes(Floats x) {
  x = add(x, _mm256_permute2f128_ps(x, x, 1));
  x = add(x, _mm256_permute_ps(x, 0x4E));
  return _mm256_cvtss_f32(add(x, swap_pairs(x)));
}
inline int32_t sum_words(Words x) {
  const __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  const __m128i pair = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32(pair, 0xB1)));
}
inline float max_lane(Floats x) {
  x = max(x, _mm256_permute2f128_ps(x, x, 1));
  x = max(x, _mm256_permute_ps(x, 0x4E));
  return _mm256_cvtss_f32(max(x, swap_pairs(x)));
}
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
/// Into the second-level cache only.
inline void prefetch_second(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}

}  // namespace
}  // namespace erne::cpu
