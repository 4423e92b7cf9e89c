// Kernels for AVX-512: 64-byte vectors, 32 registers.
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

namespace las {
namespace {

#define LAS_VECTOR_BYTES 64
#include "fp32_ops.h"
#include "micro_kernels.h"
#include "training_kernels.h"

const Kernels<float> kernels = {
    "avx512",
    Fp32::lanes,
    4,
    Fp32::step,
    {0, 12, 12, 8, 6},
    {nullptr, multiply<Fp32, 12, 1>, multiply<Fp32, 12, 2>, multiply<Fp32, 8, 3>,
     multiply<Fp32, 6, 4>},
    {nullptr, multiply<Fp32, 6, 1>, multiply<Fp32, 6, 2>, multiply<Fp32, 4, 3>,
     multiply<Fp32, 3, 4>},
    {multiply<Fp32, 13, 2>, multiply<Fp32, 14, 2>},
    depthwise<Fp32>,
    opine<Fp32>,
    relu<Fp32>,
    winograd_inputs<Fp32>,
    winograd_outputs<Fp32>,
    max_rows<Fp32>,
    sum_rows<Fp32>,
    scale_rows<Fp32>,
    training_kernels_of<Fp32>,
};

}  // namespace
}  // namespace las

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const las::Kernels<float>* las::avx512_kernels() {
  const bool here = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return here ? &kernels : nullptr;
}

#else

const las::Kernels<float>* las::avx512_kernels() { return nullptr; }

#endif
