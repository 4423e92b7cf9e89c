// Kernels for bfloat16 with AVX-512: pairs of products, summed in single precision.
#include "kernels.h"

// GCC 9 has AVX-512, but not these instructions.
#if defined(__x86_64__) && __has_include(<avx512bf16intrin.h>)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(                                                          \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
#pragma GCC target("prefer-vector-width=512")
#endif

namespace las {
namespace {

#define LAS_VECTOR_BYTES 64
#include "micro_kernels.h"

struct Bf16 {
  using T = bfloat16;
  using Vec = __m512;
  using Weights = __m512bh;
  using Scalar = __m512bh;
  static constexpr int lanes = 16;
  static constexpr int step = 2;

  static Vec load(const T* p) {
    const __m256i bits = _mm256_loadu_si256((const __m256i*)p);
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
  }
  static Vec load_float(const float* p) { return _mm512_loadu_ps(p); }
  static Weights load_weights(const T* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static Scalar scalar(const T* p) {
    int pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  static Vec multiply_add(Vec sum, Scalar a, Weights w) { return _mm512_dpbf16_ps(sum, a, w); }
  static void store(T* p, Vec value) {
    _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh(value));
  }
  static Vec magnitude(Vec value) { return _mm512_abs_ps(value); }
  static float to_float(T value) {
    const uint32_t bits = (uint32_t)value.bits << 16;
    float result;
    __builtin_memcpy(&result, &bits, sizeof(result));
    return result;
  }
};

const Kernels<bfloat16> kernels = {
    "avx512_bf16",
    Bf16::lanes,
    4,
    Bf16::step,
    {0, 12, 12, 8, 6},
    {nullptr, multiply<Bf16, 12, 1>, multiply<Bf16, 12, 2>, multiply<Bf16, 8, 3>,
     multiply<Bf16, 6, 4>},
    {nullptr, multiply<Bf16, 6, 1>, multiply<Bf16, 6, 2>, multiply<Bf16, 4, 3>,
     multiply<Bf16, 3, 4>},
    {multiply<Bf16, 13, 2>, multiply<Bf16, 14, 2>},
    depthwise<Bf16>,
    opine<Bf16>,
    relu<Bf16>,
    nullptr,
    nullptr,
    max_rows<Bf16>,
    sum_rows<Bf16>,
    scale_rows<Bf16>,
};

}  // namespace
}  // namespace las

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const las::Kernels<las::bfloat16>* las::avx512_bf16_kernels() {
  return avx512_kernels() && __builtin_cpu_supports("avx512bf16") ? &kernels : nullptr;
}

#else

const las::Kernels<las::bfloat16>* las::avx512_bf16_kernels() { return nullptr; }

#endif
