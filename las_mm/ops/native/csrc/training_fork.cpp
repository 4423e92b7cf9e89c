#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "training_common.h"

namespace las {
namespace {

constexpr int64_t kPlanes = 16;  // channels of an image that a thread takes at least

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

at::Tensor fork_forward(const at::Tensor& x, int64_t window, const std::string& isa) {
  const TrainingKernels& kernels = training_kernels(isa);
  check(x, x.sizes(), "x");
  const int64_t height = x.size(2), width = x.size(3);
  const int64_t rows = divide_up(height, window), columns = divide_up(width, window);
  at::Tensor out = at::empty({x.size(0), x.size(1), rows, columns}, x.options());
  const float* from = data(x);
  float* to = data(out);
  at::parallel_for(0, x.size(0) * x.size(1), kPlanes, [&](int64_t begin, int64_t end) {
    std::vector<float> row(width);
    for (int64_t i = begin; i < end; i++) {
      kernels.pool(from + i * height * width, height, width, window, row.data(),
                   to + i * rows * columns);
    }
  });
  return out;
}

at::Tensor fork_backward(const at::Tensor& of_branch, const at::Tensor& of_shortcut,
                         const at::Tensor& of_pooled, int64_t window, const std::string& isa) {
  const TrainingKernels& kernels = training_kernels(isa);
  const int64_t n = of_branch.size(0), channels = of_branch.size(1);
  const int64_t height = of_branch.size(2), width = of_branch.size(3), pixels = height * width;
  const int64_t rows = divide_up(height, window), columns = divide_up(width, window);
  check(of_branch, of_branch.sizes(), "of_branch");
  check(of_shortcut, of_branch.sizes(), "of_shortcut");
  check(of_pooled, {n, channels, rows, columns}, "of_pooled");
  at::Tensor out = at::empty_like(of_branch);
  const float *branch = data(of_branch), *shortcut = data(of_shortcut), *pooled = data(of_pooled);
  float* to = data(out);
  at::parallel_for(0, n * channels, kPlanes, [&](int64_t begin, int64_t end) {
    std::vector<float> shares(pixels);
    for (int64_t i = begin; i < end; i++) {
      kernels.unpool(pooled + i * rows * columns, height, width, window, shares.data());
      kernels.add(branch + i * pixels, shortcut + i * pixels, shares.data(), pixels,
                  to + i * pixels);
    }
  });
  return out;
}

}  // namespace las
