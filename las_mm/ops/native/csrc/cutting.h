// Convolutions whose channels are cut, image by image, to those that a mask leaves.
#pragma once

#include <vector>

#include "packing.h"

namespace las {

// In the place of an input's or output's number: a channel of zeros, and one that is 1 everywhere.
constexpr int kZero = -1, kOne = -2;
// In the place of an output's number: what it carries where it is left out.
constexpr int left_out(int channel) { return -3 - channel; }

// Memory for the weights of an image, one convolution after another; the next image has the same.
class CutMemory {
 public:
  void restart() { next_ = 0; }
  std::shared_ptr<char> take(size_t bytes);

 private:
  struct Piece {
    std::shared_ptr<char> memory;
    size_t bytes;
  };
  std::vector<Piece> pieces_;
  size_t next_ = 0;
};

// What a channel that is left out carries at every pixel makes of a convolution's output a constant,
// but at the edges, where taps lie outside of the image. As the weights of one more input channel,
// which is 1 inside of the image, it is right at every pixel, and any algorithm computes it.
template <class T>
class LooseConv {
 public:
  // weight: (out, in / groups, kernel, kernel); bias: (out). constants: (in) what input channels carry
  // where they are left out; empty for zeros, and in a grouped convolution. skipped: (out) the same of
  // the outputs, before their activation; empty for zeros.
  LooseConv(const ConvShape& shape, const float* weight, const float* bias,
            const std::vector<float>& constants, const std::vector<float>& skipped,
            Algorithm algorithm);

  // The convolution of some channels. inputs: numbers within a group, of which kOne stands for those
  // left out; without it their constants are added to the bias, which is right for 1×1. outputs:
  // numbers of channels in ascending order, those of whole groups.
  PackedConv<T> cut(const std::vector<int>& inputs, const std::vector<int>& outputs, int groups,
                    const Kernels<T>& kernels, CutMemory& memory) const;

  const ConvShape& shape() const { return shape_; }
  Algorithm algorithm() const { return algorithm_; }
  bool carries() const { return !totals_.empty(); }

 private:
  struct Cut;
  const T* row(int tap, int input) const {
    return weights_.data() +
           (static_cast<size_t>(tap) * shape_.depth() + input) * shape_.out_channels;
  }
  float bias_of(int channel) const;
  std::vector<float> sum_carried(const std::vector<float>& carried, const std::vector<int>& columns,
                                 size_t count, size_t chunks) const;

  ConvShape shape_;
  Algorithm algorithm_;
  int taps_;
  std::vector<T> weights_;       // [tap][in / groups][out]
  std::vector<float> bias_, skipped_;  // [out]
  std::vector<float> constants_;  // [in]
  std::vector<float> totals_;    // [tap][out]: what all constants add; empty if all are zero
};

}  // namespace las
