// What the parts of training share.
#pragma once

#include <ATen/Parallel.h>

#include "py_block.h"
#include "training.h"

namespace las {

inline const TrainingKernels& training_kernels(const std::string& isa) {
  const Kernels<float>* kernels = find_kernels<float>(isa);
  TORCH_CHECK_VALUE(kernels, "isa: this CPU has no '", isa, "'");
  return kernels->training;
}

inline void check(const at::Tensor& tensor, at::IntArrayRef sizes, const char* name) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == at::kFloat && tensor.is_contiguous() &&
                        tensor.device().is_cpu() && tensor.sizes() == sizes,
                    name, ": must be contiguous, single precision, on the CPU and ", sizes,
                    " in size");
}

inline const float* data(const at::Tensor& tensor) { return tensor.const_data_ptr<float>(); }
inline float* data(at::Tensor& tensor) { return tensor.mutable_data_ptr<float>(); }

// `job(i)` for each i below `count`, on any thread.
template <class Job>
void run_jobs(int64_t count, const Job& job) {
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) job(i);
  });
}

}  // namespace las
