// Kernels for AVX2 with FMA: 32-byte vectors, 16 registers.
#include "kernels.h"

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace las {
namespace {

#define LAS_VECTOR_BYTES 32
#include "fp32_ops.h"
#include "micro_kernels.h"
#include "training_kernels.h"

const Kernels<float> kernels = {
    "avx2",
    Fp32::lanes,
    2,
    Fp32::step,
    {0, 8, 6},
    {nullptr, multiply<Fp32, 8, 1>, multiply<Fp32, 6, 2>},
    {nullptr, multiply<Fp32, 4, 1>, multiply<Fp32, 3, 2>},
    {nullptr, nullptr},
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

const las::Kernels<float>* las::avx2_kernels() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kernels : nullptr;
}

#else

const las::Kernels<float>* las::avx2_kernels() { return nullptr; }

#endif
