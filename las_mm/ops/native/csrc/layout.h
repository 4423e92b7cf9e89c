// Features from the memory in which executors compute to the one that other operators expect.
#pragma once

#include <ATen/core/Tensor.h>

namespace las {

// A contiguous copy of x, (N, C, H, W) in channels-last memory on the CPU, of two or four bytes a value.
// widen: from bfloat16 to single precision.
at::Tensor to_contiguous(const at::Tensor& x, bool widen = false);

}  // namespace las
