// What training a dynamic block takes beyond a static one: at its begin, a fork, where the input goes to
// the branch, the shortcut and, pooled, to the masker; and at its end, relu(M ⊙ norm(x) + identity).
// Features are (N, C, H, W), contiguous, of single precision and on the CPU. Results are the same bits
// for any number of threads. An empty `isa` is the best one.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <tuple>

namespace las {

// Averages over the windows of x, the last ones perhaps cut: (N, C, ceil(H / window), …).
at::Tensor fork_forward(const at::Tensor& x, int64_t window, const std::string& isa);

// The gradient of x from those of its two further uses and of the averages.
at::Tensor fork_backward(const at::Tensor& of_branch, const at::Tensor& of_shortcut,
                         const at::Tensor& of_pooled, int64_t window, const std::string& isa);

// The gradients of x (none unless it is needed), of the batch norm's weight and bias, of M, which is
// `pixels`, (N, 1, H, W), and of the identity, from that of `out`. The batch norm used `mean` and
// `invstd`, which in training are the batch's.
std::tuple<std::optional<at::Tensor>, at::Tensor, at::Tensor, at::Tensor, at::Tensor> end_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
    const at::Tensor& pixels, const at::Tensor& out, const at::Tensor& mean,
    const at::Tensor& invstd, bool training, bool needs_x, const std::string& isa);

}  // namespace las
