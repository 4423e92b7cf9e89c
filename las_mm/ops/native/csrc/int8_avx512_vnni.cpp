// Kernels for features in 8 bits with AVX-512 VNNI: four products at once, 64-byte vectors.
#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")
#endif

namespace las {
namespace {

#define LAS_VECTOR_BYTES 64
#include "micro_kernels.h"

struct Avx512Bytes {
  using T = uint8_t;
  typedef float Vec __attribute__((vector_size(64)));
  typedef int Ints __attribute__((vector_size(64)));
  using Bytes = __m512i;
  static constexpr int lanes = 16;

  static Vec load_float(const float* p) { return (Vec)_mm512_loadu_ps(p); }
  static Ints load_ints(const T* p) {
    return (Ints)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
  }
  static Vec load(const T* p) { return __builtin_convertvector(load_ints(p), Vec); }
  static Vec magnitude(Vec value) { return value; }  // without a sign
  static float to_float(T value) { return value; }
  static Bytes load_weights(const T* p) { return _mm512_loadu_si512(p); }
  static Bytes broadcast(const T* p) {
    int four;
    __builtin_memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
  }
  static Ints multiply_add(Ints sum, Bytes four, Bytes w) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, four, w);
  }
  static void store(T* p, Ints value) {
    const __m512i positive = _mm512_max_epi32((__m512i)value, _mm512_setzero_si512());
    _mm_storeu_si128((__m128i*)p, _mm512_cvtusepi32_epi8(positive));
  }
};

#include "int8_kernels.h"

const Kernels<uint8_t> kernels = {
    "avx512_vnni",
    Avx512Bytes::lanes,
    4,
    4,
    {0, 12, 12, 8, 6},
    {nullptr, multiply_bytes<Avx512Bytes, 12, 1>, multiply_bytes<Avx512Bytes, 12, 2>,
     multiply_bytes<Avx512Bytes, 8, 3>, multiply_bytes<Avx512Bytes, 6, 4>},
    {nullptr, multiply_bytes<Avx512Bytes, 6, 1>, multiply_bytes<Avx512Bytes, 6, 2>,
     multiply_bytes<Avx512Bytes, 4, 3>, multiply_bytes<Avx512Bytes, 3, 4>},
    {multiply_bytes<Avx512Bytes, 13, 2>, multiply_bytes<Avx512Bytes, 14, 2>},
    nullptr,
    opine<Avx512Bytes>,
    copy_bytes,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    {},
    {quantize_row<Avx512Bytes>, dequantize_row<Avx512Bytes>},
};

}  // namespace
}  // namespace las

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const las::Kernels<uint8_t>* las::avx512_vnni_int8_kernels() {
  return avx512_kernels() && __builtin_cpu_supports("avx512vnni") ? &kernels : nullptr;
}

#else

const las::Kernels<uint8_t>* las::avx512_vnni_int8_kernels() { return nullptr; }

#endif
