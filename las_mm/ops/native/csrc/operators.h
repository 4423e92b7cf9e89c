// Packed parts of a network as objects of a torch library: nothing of Python is in them.
#pragma once

#include <torch/custom_class.h>

#include "py_chain.h"
#include "py_plain_conv.h"
#include "py_stem.h"

namespace las {

// What packed parts are made of, in types that TorchScript has. Pickles hold these, so that whoever
// loads one packs for its own instruction set.

// Folded weight (out, in / groups, k, k), bias (out), stride, dilation, groups.
using ConvSpec = std::tuple<at::Tensor, at::Tensor, int64_t, int64_t, int64_t>;

// In order: convolutions; limits of their activations, negative for none; what skipped channels carry;
// squeeze-and-excitation (none or two); shortcut (none or one); masker: its row and bias in double
// (none or two tensors); channel masker: weights and biases in double; granularity; whether it adds
// to an identity; whether it skips channels.
using BlockSpec =
    std::tuple<std::vector<ConvSpec>, std::vector<double>, std::vector<at::Tensor>,
               std::vector<ConvSpec>, std::vector<ConvSpec>, std::vector<at::Tensor>,
               std::vector<at::Tensor>, int64_t, bool, bool>;

// Blocks that follow each other.
class ChainObject : public torch::CustomClassHolder {
 public:
  using State = std::tuple<std::vector<BlockSpec>, bool>;

  // low: whether the features are in bfloat16 instead of float32.
  ChainObject(std::vector<BlockSpec> blocks, bool low);

  State state() const { return {specs_, low_}; }

  // Of each block: its stride, its output channels, S of the mask of patches that it gives or 0, and
  // how many groups of channels it decides on or 0.
  std::vector<std::vector<int64_t>> outline() const;

  // x: (N, C, H, W) in any layout. identity: of the first block, where that pools its shortcut.
  // Returns the last output in channels-last memory, then of each block the masks that it decides on:
  // of patches (N, 1, h, w), of groups of channels (N, K).
  std::vector<at::Tensor> run(const at::Tensor& x,
                              const std::optional<at::Tensor>& identity) const;

 private:
  template <class T>
  std::unique_ptr<PyChain<T>> pack() const;

  std::vector<BlockSpec> specs_;
  bool low_;
  std::unique_ptr<PyChain<float>> exact_chain_;
  std::unique_ptr<PyChain<bfloat16>> low_chain_;
};

// A convolution with what follows it: activation and perhaps max pooling.
class StemObject : public torch::CustomClassHolder {
 public:
  using State = std::tuple<ConvSpec, std::vector<int64_t>, double, bool>;

  // pool: kernel, stride and padding; empty for a convolution of features, without pooling. limit:
  // where the activation ends.
  StemObject(ConvSpec conv, std::vector<int64_t> pool, double limit, bool low);

  State state() const { return {conv_, pool_, limit_, low_}; }

  // Output channels; kernel, stride and padding of the convolution, then of the pooling.
  std::vector<int64_t> outline() const;

  at::Tensor run(const at::Tensor& x) const;

 private:
  ConvSpec conv_;
  std::vector<int64_t> pool_;
  double limit_;
  bool low_;
  std::unique_ptr<PyStem<float>> exact_stem_;
  std::unique_ptr<PyStem<bfloat16>> low_stem_;
  std::unique_ptr<PyPlainConv<float>> exact_conv_;
  std::unique_ptr<PyPlainConv<bfloat16>> low_conv_;
};

}  // namespace las
