// Kernels for features in 8 bits with AVX2: pairs of products in 16 bits, which small weights keep
// from saturating.
#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace las {
namespace {

#define LAS_VECTOR_BYTES 32
#include "micro_kernels.h"

struct Avx2Bytes {
#include "int8_ops256.h"
  static Ints multiply_add(Ints sum, Bytes four, Bytes w) {
    const __m256i pairs = _mm256_maddubs_epi16(four, w);
    return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
};

#include "int8_kernels.h"

const Kernels<uint8_t> kernels = LAS_BYTE_KERNELS("avx2", Avx2Bytes);

}  // namespace
}  // namespace las

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const las::Kernels<uint8_t>* las::avx2_int8_kernels() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kernels : nullptr;
}

#else

const las::Kernels<uint8_t>* las::avx2_int8_kernels() { return nullptr; }

#endif
