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

// A convolution whose channels can be left out. Inputs that are carry a constant at every pixel. What
// these add to an output is one more bias, but near the edges, where taps lie outside of the image:
// see Edges.
template <class T>
class LooseConv {
 public:
  // weight: (out, in / groups, kernel, kernel); bias: (out). constants: (in) what input channels carry
  // where they are left out; empty for zeros, and in a grouped convolution. skipped: (out) the same of
  // the outputs, before their activation; empty for zeros.
  LooseConv(const ConvShape& shape, const float* weight, const float* bias,
            const std::vector<float>& constants, const std::vector<float>& skipped,
            Algorithm algorithm);

  const ConvShape& shape() const { return shape_; }
  Algorithm algorithm() const { return algorithm_; }
  // Weights per input and output channel.
  int taps() const { return taps_; }
  bool carries() const { return !totals_.empty(); }
  // The weights of a tap and an input: (out).
  const T* row(int tap, int input) const {
    return weights_.get() +
           (static_cast<size_t>(tap) * shape_.depth() + input) * shape_.out_channels;
  }
  float constant(int input) const { return constants_[input]; }
  // What all constants add to a channel, through a tap.
  float total(int tap, int channel) const {
    return totals_[static_cast<size_t>(tap) * shape_.out_channels + channel];
  }
  // Of an output's number or what stands in its place.
  float bias_of(int channel) const;

 private:
  ConvShape shape_;
  Algorithm algorithm_;
  int taps_;
  std::shared_ptr<T> weights_;         // [tap][in / groups][out]
  std::vector<float> bias_, skipped_;  // [out]
  std::vector<float> constants_;       // [in]
  std::vector<float> totals_;          // [tap][out]; empty if all are zero
};

// Some channels of a convolution, being packed: jobs that are independent, and an end.
template <class T>
class Cut {
 public:
  // inputs: numbers within a group; with kOne among them, what the inputs left out carry becomes the
  // weights of a channel that is 1 inside of the image. outputs: numbers of channels in ascending
  // order, those of whole groups. h, w: of the input.
  Cut(const LooseConv<T>& loose, std::vector<int> inputs, std::vector<int> outputs, int groups,
      const Kernels<T>& kernels, CutMemory& memory, int h, int w);

  int jobs() const { return chunks_ * loose_->taps(); }
  void run(int job);
  // Once all jobs are done.
  PackedConv<T> finish();

 private:
  void select();
  void fetch(int tap, int input) const;
  const T* take(const T* row, T* room) const;
  void put(const T* const* rows, int count, int columns, int tap, size_t k);
  std::vector<float> sum_carried() const;
  std::vector<float> without_transform(const std::vector<float>& sums) const;

  const LooseConv<T>* loose_;
  std::vector<int> inputs_, outputs_;
  const Kernels<T>* kernels_;
  int h_, w_, chunks_;
  PackedConv<T> conv_;
  std::vector<int> numbers_, places_;  // of the outputs that are channels, and their columns
  std::vector<uint16_t> bits_;         // which those are, 16 to an entry
  bool in_order_ = true;   // whether they follow each other in the whole convolution
  bool is_leading_ = true;  // whether their columns do
  std::vector<float> carried_;  // [chunk][tap][output]: less what inputs would carry if left out
};

}  // namespace las
