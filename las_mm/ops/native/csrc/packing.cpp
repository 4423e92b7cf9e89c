#include "packing.h"

#include <algorithm>
#include <cstring>

#include "conversion.h"

namespace las {
namespace {

// A panel that is read again for every tile of pixels should stay in the second-level cache.
constexpr size_t kPanelBytes = 512 << 10;

}  // namespace

void transform_kernel(const float* kernel, float* out) {
  constexpr double kG[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 4; j++) {
      double sum = 0;
      for (int k = 0; k < 9; k++) sum += kG[i][k / 3] * kernel[k] * kG[j][k % 3];
      out[4 * i + j] = static_cast<float>(sum);
    }
  }
}

template <class T>
PackedConv<T>::PackedConv(const ConvShape& shape, const float* weight, const float* bias,
                          const Kernels<T>& kernels, Algorithm algorithm)
    : PackedConv(shape, kernels, algorithm) {
  const std::shared_ptr<char> memory = allocate_weights(bytes_);
  weights_ = {memory, reinterpret_cast<T*>(memory.get())};
  for (const Panel& panel : panels_) pack(panel, weight, bias, kernels);
}

template <class T>
PackedConv<T>::PackedConv(const ConvShape& shape, const Kernels<T>& kernels, Algorithm algorithm)
    : shape_(shape), algorithm_(algorithm), lanes_(kernels.lanes) {
  // Of a depthwise convolution all groups are packed as one.
  const int lanes = kernels.lanes, groups = is_depthwise() ? 1 : shape.groups;
  const int group_columns = shape.out_channels / groups;
  const size_t rows = static_cast<size_t>(taps()) * shape.depth();
  int widest = kernels.max_vectors;
  if (widest > 2 && rows * widest * lanes * sizeof(T) > kPanelBytes) widest = 2;
  size_t weights = 0, biases = 0;
  for (int group = 0; group < groups; group++) {
    for (int done = 0; done < group_columns; done += widest * lanes) {
      const int columns = std::min(group_columns - done, widest * lanes);
      const int vectors = (columns + lanes - 1) / lanes;
      panels_.push_back({is_depthwise() ? done : group * shape.depth(), group * group_columns + done, columns, vectors,
                         weights, biases});
      weights += rows * vectors * lanes;
      biases += vectors * lanes;
    }
  }
  bias_.reserve(biases);
  bytes_ = weights * sizeof(T);
}

template <class T>
PackedConv<T>::PackedConv(const ConvShape& shape, const Kernels<T>& kernels, Algorithm algorithm,
                          std::shared_ptr<char> memory)
    : PackedConv(shape, kernels, algorithm) {
  weights_ = {memory, reinterpret_cast<T*>(memory.get())};
}

template <class T>
size_t PackedConv<T>::packed_bytes(const ConvShape& shape, const Kernels<T>& kernels,
                                   Algorithm algorithm) {
  return PackedConv(shape, kernels, algorithm).bytes_;
}

// [tap][depth / step][column][step], padded with zero columns to whole vectors; if depthwise
// [vector][tap][lanes].
template <class T>
void PackedConv<T>::pack(const Panel& panel, const float* weight, const float* bias,
                         const Kernels<T>& kernels) {
  const int width = panel.vectors * kernels.lanes, step = kernels.depth_step;
  const int taps = this->taps(), depth = shape_.depth();
  const bool direct = algorithm_ != Algorithm::winograd;
  T* packed = weights_.get() + panel.weights;
  std::memset(static_cast<void*>(packed), 0, sizeof(T) * taps * depth * width);
  std::fill_n(bias_.data() + panel.bias, width, 0.f);
  for (int column = 0; column < panel.columns; column++) {
    const int channel = panel.column + column;
    bias_.data()[panel.bias + column] = bias[channel];
    const float* from = weight + static_cast<size_t>(channel) * depth * shape_.taps();
    for (int k = 0; k < depth; k++, from += shape_.taps()) {
      float transformed[kWinogradEdge * kWinogradEdge];
      if (!direct) transform_kernel(from, transformed);
      const float* values = direct ? from : transformed;
      T* to = packed + (static_cast<size_t>(k / step) * width + column) * step + k % step;
      size_t stride = static_cast<size_t>(depth) * width;
      if (is_depthwise()) {
        const int lanes = kernels.lanes;
        to = packed + column / lanes * taps * lanes + column % lanes;
        stride = lanes;
      }
      for (int tap = 0; tap < taps; tap++) convert(values[tap], to[tap * stride]);
    }
  }
}

template <class T>
void PackedConv<T>::set_scales(const float* scales) {
  const Panel& last = panels_.back();
  scales_.assign(last.bias + static_cast<size_t>(last.vectors) * lanes_, 0.f);
  for (const Panel& panel : panels_) {
    std::copy_n(scales + panel.column, panel.columns, scales_.begin() + panel.bias);
  }
}

template class PackedConv<float>;
template class PackedConv<bfloat16>;
template class PackedConv<uint8_t>;

}  // namespace las
