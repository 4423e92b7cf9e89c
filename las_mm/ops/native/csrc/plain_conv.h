// A convolution of whole features that stands alone, with the norm and activation after it.
#pragma once

#include "gemm.h"

namespace las {

template <class T>
class PlainConv {
 public:
  PlainConv(PackedConv<T> conv, const Activation& act, const Kernels<T>& kernels)
      : conv_(std::move(conv)), act_(act), kernels_(kernels) {}

  const ConvShape& shape() const { return conv_.shape(); }
  const Kernels<T>& kernels() const { return kernels_; }

  // x: (n, h, w, in channels); out: (n, out_size(h), out_size(w), out channels).
  void run(const T* x, int n, int h, int w, T* out, int threads) const;

 private:
  PackedConv<T> conv_;
  Activation act_;
  const Kernels<T>& kernels_;
};

}  // namespace las
