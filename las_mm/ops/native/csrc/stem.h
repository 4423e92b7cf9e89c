// What comes before the first block: a convolution of images, ReLU, and perhaps max pooling.
#pragma once

#include "packing.h"

namespace las {

// Max pooling of square windows; {1, 1, 0} is none.
struct PoolShape {
  int kernel, stride, padding;

  int out_size(int size) const {
    const int room = size + 2 * padding - kernel;
    return room < 0 ? 0 : room / stride + 1;
  }
};

// (n, channels, h, w), in any layout: the distances between neighbours are counted in elements.
template <class T>
struct Images {
  const T* base = nullptr;
  int n = 0, channels = 0, h = 0, w = 0;
  int64_t image_step = 0, channel_step = 0, row_step = 0, pixel_step = 0;
};

// Images have so few channels that a row of pixels under the kernel is one row of the matrix product.
// A thread takes some rows of the output and keeps no more of the convolution's than a window needs.
template <class T>
class Stem {
 public:
  // weight: (out, in, kernel, kernel) of a convolution without groups and dilation; bias: (out);
  // limit: where the activation ends.
  Stem(const ConvShape& shape, const float* weight, const float* bias, const PoolShape& pool,
       float limit, const Kernels<T>& kernels);

  const ConvShape& shape() const { return shape_; }
  const Kernels<T>& kernels() const { return kernels_; }
  int out_size(int size) const { return pool_.out_size(shape_.out_size(size)); }

  // out: (n, out_size(h), out_size(w), out channels).
  void run(const Images<T>& images, T* out, int threads) const;

 private:
  class Band;

  ConvShape shape_;
  PoolShape pool_;
  float limit_;
  const Kernels<T>& kernels_;
  int depth_;  // of a row under the kernel
  PackedConv<T> conv_;
};

}  // namespace las
