// Kernels for features in 8 bits with AVX-VNNI: four products at once, 32-byte vectors.
#include "kernels.h"

#if defined(__x86_64__) && __has_include(<avxvnniintrin.h>)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avxvnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avxvnni")
#endif

namespace las {
namespace {

#define LAS_VECTOR_BYTES 32
#include "micro_kernels.h"

struct AvxVnniBytes {
#include "int8_ops256.h"
  static Ints multiply_add(Ints sum, Bytes four, Bytes w) {
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sum, four, w);
  }
};

#include "int8_kernels.h"

const Kernels<uint8_t> kernels = LAS_BYTE_KERNELS("avxvnni", AvxVnniBytes);

}  // namespace
}  // namespace las

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#include <cpuid.h>

namespace {

// Not every compiler that has these instructions knows their name in __builtin_cpu_supports.
bool has_avxvnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

}  // namespace

const las::Kernels<uint8_t>* las::avxvnni_int8_kernels() {
  return avx2_int8_kernels() && has_avxvnni() ? &kernels : nullptr;
}

#else

const las::Kernels<uint8_t>* las::avxvnni_int8_kernels() { return nullptr; }

#endif
