// A linear layer of rows that may be parts of longer ones.
#pragma once

#include "gemm.h"

namespace las {

template <class T>
class PackedLinear {
 public:
  // conv: 1×1, without groups.
  PackedLinear(PackedConv<T> conv, const Kernels<T>& kernels)
      : conv_(std::move(conv)), kernels_(kernels) {}

  const ConvShape& shape() const { return conv_.shape(); }
  const Kernels<T>& kernels() const { return kernels_; }

  // out[i] = weight · x[i] + bias, plus out[i] if it adds. Rows of x and of out are this many elements
  // apart.
  void run(const T* x, int x_stride, int rows, T* out, int out_stride, bool adds,
           int threads) const;

 private:
  PackedConv<T> conv_;
  const Kernels<T>& kernels_;
};

}  // namespace las
