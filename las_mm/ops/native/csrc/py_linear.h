// A packed linear layer, as Python holds it.
#pragma once

#include "linear.h"
#include "py_block.h"

namespace las {

template <class T>
class PyLinear {
 public:
  using Element = typename PyBlock<T>::Element;

  // weight: (out, in), bias: (out), in float.
  PyLinear(const at::Tensor& weight, const at::Tensor& bias, const std::string& isa) {
    const Kernels<T>* kernels = find_kernels<T>(isa);
    TORCH_CHECK_VALUE(kernels, "isa: this CPU has no '", isa, "'");
    TORCH_CHECK_VALUE(weight.dim() == 2, "weight: got ", weight.sizes(), "; it must be (out, in)");
    const Conv conv{weight.unsqueeze(2).unsqueeze(3), bias, 1, 1, 1};
    linear_ = std::make_unique<PackedLinear<T>>(pack(conv, *kernels), *kernels);
  }

  // x: (rows, in); out: (rows, out), which is written, or added to; columns of larger matrices, too.
  void run(const at::Tensor& x, const at::Tensor& out, bool adds) const {
    check(x, "x", linear_->shape().in_channels);
    check(out, "out", linear_->shape().out_channels);
    TORCH_CHECK_VALUE(x.size(0) == out.size(0), "out: got ", out.size(0), " rows for ", x.size(0));
    linear_->run(reinterpret_cast<const T*>(x.const_data_ptr<Element>()), x.stride(0), x.size(0),
                 reinterpret_cast<T*>(out.mutable_data_ptr<Element>()), out.stride(0), adds,
                 free_threads());
  }

  const char* isa() const { return linear_->kernels().isa; }

 private:
  static void check(const at::Tensor& rows, const char* name, int columns) {
    TORCH_CHECK_VALUE(rows.dim() == 2 && rows.size(1) == columns && rows.stride(1) == 1, name,
                      ": got ", rows.sizes(), ", give rows of ", columns, " elements");
  }

  std::unique_ptr<PackedLinear<T>> linear_;
};

}  // namespace las
