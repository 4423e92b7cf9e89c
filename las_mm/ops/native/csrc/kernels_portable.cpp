// Kernels for whatever CPU the compiler targets by default: 16-byte vectors, 16 registers.
#include "kernels.h"

namespace las {
namespace {

#define LAS_VECTOR_BYTES 16
#include "fp32_ops.h"
#include "micro_kernels.h"
#include "training_kernels.h"

const Kernels<float> kernels = {
    "portable",
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

const Kernels<float>* portable_kernels() { return &kernels; }

}  // namespace las
