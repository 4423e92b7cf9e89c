// A convolution's folded weights in the order in which a micro-kernel reads them.
#pragma once

#include <vector>

#include "kernels.h"
#include "memory.h"
#include "weight_memory.h"

namespace las {

// A square, zero-padded convolution whose output has ceil(size / stride) pixels.
struct ConvShape {
  int in_channels, out_channels, kernel, stride, dilation, groups;

  int taps() const { return kernel * kernel; }
  int padding() const { return dilation * (kernel / 2); }
  int depth() const { return in_channels / groups; }
  int out_size(int size) const { return (size + stride - 1) / stride; }
  bool is_depthwise() const {
    return groups > 1 && groups == in_channels && groups == out_channels;
  }
};

constexpr int kMaxKernel = 7;

// How a convolution is computed; its weights are packed for that. Winograd's F(2×2, 3×3) makes four
// outputs of a 3×3 convolution from 16 products instead of 36.
// A depthwise one has nothing to multiply as matrices: it is computed channel by channel.
enum class Algorithm { direct, winograd, depthwise };

// Edge of the tile of inputs from which Winograd's algorithm makes 2×2 outputs.
constexpr int kWinogradEdge = 4;

// A panel: some output channels of one group, as wide as a micro-kernel.
struct Panel {
  int first_channel;  // of the group, in the input
  int column;         // first output channel
  int columns;        // output channels, the last vector may be cut
  int vectors;
  size_t weights, bias;  // where they start
};

template <class T>
class Edges;

template <class T>
class PackedConv {
 public:
  // weight: (out, in / groups, kernel, kernel); bias: (out).
  PackedConv(const ConvShape& shape, const float* weight, const float* bias,
             const Kernels<T>& kernels, Algorithm algorithm = Algorithm::direct);
  // One to be filled, in memory that it is given: packed_bytes() of it.
  PackedConv(const ConvShape& shape, const Kernels<T>& kernels, Algorithm algorithm,
             std::shared_ptr<char> memory);
  static size_t packed_bytes(const ConvShape& shape, const Kernels<T>& kernels,
                             Algorithm algorithm);
  T* weights_of(const Panel& panel) { return weights_.get() + panel.weights; }
  float* bias_of(const Panel& panel) { return bias_.data() + panel.bias; }

  const ConvShape& shape() const { return shape_; }
  Algorithm algorithm() const { return algorithm_; }
  // Weights per input and output channel: the kernel's taps, or more of them for Winograd.
  int taps() const {
    return algorithm_ != Algorithm::winograd ? shape_.taps() : kWinogradEdge * kWinogradEdge;
  }
  const std::vector<Panel>& panels() const { return panels_; }
  const T* weights(const Panel& panel) const { return weights_.get() + panel.weights; }
  const float* bias(const Panel& panel) const { return bias_.data() + panel.bias; }
  // Whether each of several groups is one panel, all of the same width, or each panel has several
  // groups of one channel: panels then go together.
  bool is_narrow() const {
    return is_depthwise() ||
           (shape_.groups > 1 && panels_.size() == static_cast<size_t>(shape_.groups));
  }
  bool is_depthwise() const { return algorithm_ == Algorithm::depthwise; }
  // Of bytes: what a sum is multiplied by, (out), see Rescale; null for none.
  void set_scales(const float* scales);
  const float* scales(const Panel& panel) const {
    return scales_.empty() ? nullptr : scales_.data() + panel.bias;
  }
  // What pixels near the edges get beside the bias; null for nothing. Not together with a residual.
  const Edges<T>* edges() const { return edges_.get(); }
  void set_edges(std::shared_ptr<const Edges<T>> edges) { edges_ = std::move(edges); }
  size_t bytes() const { return bytes_; }
  size_t bytes(const Panel& panel) const {
    return sizeof(T) * panel.vectors * lanes_ * taps() * shape_.depth();
  }

 private:
  PackedConv(const ConvShape& shape, const Kernels<T>& kernels, Algorithm algorithm);
  void pack(const Panel& panel, const float* weight, const float* bias, const Kernels<T>& kernels);

  ConvShape shape_;
  Algorithm algorithm_;
  std::vector<Panel> panels_;
  std::shared_ptr<T> weights_;
  std::shared_ptr<const Edges<T>> edges_;
  Buffer<float> bias_;
  std::vector<float> scales_;
  size_t bytes_ = 0;
  int lanes_;
};

}  // namespace las
