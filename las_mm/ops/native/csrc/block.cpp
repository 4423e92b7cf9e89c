#include "block.h"

#include <cmath>

#include "conversion.h"

namespace las {
namespace {

// Of the features of a band. Narrow groups compute little with what they read: it must be near.
constexpr size_t kBandBytes = 12 << 20, kNarrowBandBytes = 1 << 20;

// Weights of two convolutions that fit into a core's second-level cache together with features.
constexpr size_t kTogetherBytes = 1536 << 10;

// A pass of its own costs the masker as much as this many output channels of the first convolution,
// more than going along with it does: 5 % of 64 channels, measured on 56×56 pixels of 256 channels
// on two cores of an EPYC (Zen 5).
constexpr float kMaskerChannels = 3.2f;

// Channels from which on Winograd's transforms cost less than they spare.
constexpr int kWinogradChannels = 16;

// Weights too large to stay in a cache from one forward to the next.
constexpr size_t kLargeWeights = 8 << 20;

}  // namespace

template <class T>
bool suits_winograd(const ConvShape& shape, const Kernels<T>& kernels) {
  const bool plain = shape.kernel == 3 && shape.stride == 1 && shape.dilation == 1 &&
                     shape.groups == 1;
  const bool whole = shape.in_channels % kernels.lanes == 0 &&
                     shape.out_channels % kernels.lanes == 0;
  return plain && whole && kernels.winograd_inputs &&
         std::min(shape.in_channels, shape.out_channels) >= kWinogradChannels;
}

template bool suits_winograd(const ConvShape&, const Kernels<float>&);
template bool suits_winograd(const ConvShape&, const Kernels<bfloat16>&);

bool is_needed_directly(const ConvShape& shape, int granularity) {
  const size_t weights = size_t{16} * shape.in_channels * shape.out_channels;
  return granularity == 1 || weights * sizeof(float) > kLargeWeights;
}

// A sum of n products has a relative error of at most n units of 2^-24, weights one more; doubled to
// be safe from the rounding of `size` itself.
Masker::Masker(std::vector<double> w, double b) : weights(std::move(w)), bias(b) {
  double largest = 0;
  for (double weight : weights) {
    rounded.push_back(static_cast<float>(weight));
    largest = std::max(largest, std::abs(weight));
  }
  tolerance = (weights.size() + 1) * std::ldexp(largest, -23);
}

template <class T>
double Masker::margin(const T* row) const {
  double sum = 0;
  for (size_t c = 0; c < weights.size(); c++) sum += static_cast<double>(to_float(row[c])) * weights[c];
  return sum;
}

template <class T>
Block<T>::Block(std::vector<PackedConv<T>> convs, std::vector<Activation> acts,
                std::unique_ptr<PackedConv<T>> direct,
                std::unique_ptr<Gate> gate, std::shared_ptr<const PackedConv<T>> shortcut,
                std::shared_ptr<const Masker> masker, int granularity, const Kernels<T>& kernels)
    : convs(std::move(convs)),
      acts(std::move(acts)),
      direct(std::move(direct)),
      gate(std::move(gate)),
      shortcut(std::move(shortcut)),
      masker(std::move(masker)),
      granularity(granularity),
      kernels(kernels),
      fuse_above(1 - kMaskerChannels / this->convs[0].shape().out_channels),
      band_bytes(std::max({this->convs[1].is_narrow() ? kNarrowBandBytes : kBandBytes,
                           2 * this->convs[0].bytes(), 2 * this->convs[1].bytes()})) {}

template <class T>
Geometry Block<T>::geometry(int n, int h, int w) const {
  return {convs[0].shape(), convs[1].shape(), granularity, n, h, w};
}

template <class T>
size_t Block<T>::pixel_bytes() const {
  const ConvShape& first = convs[0].shape();
  return sizeof(T) * std::max(first.in_channels, first.out_channels / 2);
}

template <class T>
bool Block<T>::is_together() const {
  return convs.size() == 3 && !gate && convs[1].bytes() + convs[2].bytes() <= kTogetherBytes;
}

template double Masker::margin(const float*) const;
template double Masker::margin(const bfloat16*) const;
template double Masker::margin(const uint8_t*) const;
template class Block<float>;
template class Block<bfloat16>;
template class Block<uint8_t>;

}  // namespace las
