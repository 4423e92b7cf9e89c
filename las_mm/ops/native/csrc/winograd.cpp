#include "winograd.h"

#include <algorithm>

#include "conversion.h"
#include "edges.h"

namespace las {
namespace {

// Which of the 4×4 inputs of a quad its active pixels read: 3×3 each. Nobody has computed the others.
uint16_t inputs_of(uint8_t active) {
  constexpr uint16_t kWindow = 0x0777;  // of the upper left pixel, 4 bits a row
  uint16_t inputs = 0;
  for (int i = 0; i < 4; i++) {
    if (active >> i & 1) inputs |= static_cast<uint16_t>(kWindow << (i / 2 * 4 + i % 2));
  }
  return inputs;
}

}  // namespace

template <class T>
void Winograd<T>::prepare(int threads, bool at_once) {
  const size_t bytes = sizeof(T) * kTaps * source.channels;
  int chunk = kLargestChunk;
  const auto jobs = [&] { return (at_once ? 1 : conv->panels().size()) * (count / chunk + 1); };
  while (chunk > kChunk && jobs() < size_t(at_once ? 16 : 2) * threads) chunk /= 2;
  walk_.begin(*conv, nullptr, *kernels, count, bytes, threads, chunk);
}

template <class T>
void Winograd<T>::job(int index) const {
  const auto job = walk_.job(index);
  multiply(conv->panels()[job.panel], job.chunk, features_of(job.chunk));
}

template <class T>
void Winograd<T>::chunk(int index) const {
  static thread_local Buffer<T> buffer;
  T* features = buffer.reserve(chunk_features(*conv));
  transform(index, features);
  for (const Panel& panel : conv->panels()) multiply(panel, index, features);
}

// features[tap][quad of the chunk][channel]
template <class T>
void Winograd<T>::transform(int chunk, T* features) const {
  const int channels = source.channels;
  for (int i = walk_.first(chunk); i < walk_.last(chunk); i++, features += channels) {
    const Quad& quad = quads[i];
    const uint16_t read = inputs_of(quad.active);
    const T* rows[kTaps];
    for (int tap = 0; tap < kTaps; tap++) {
      const int y = quad.y + tap / kWinogradEdge - 1, x = quad.x + tap % kWinogradEdge - 1;
      const bool inside = y >= 0 && x >= 0 && y < source.h && x < source.w;
      const bool is_read = inside && read >> tap & 1;
      rows[tap] = is_read ? source.base + source.offset(quad.image, y, x) : zeros;
    }
    kernels->winograd_inputs(rows, features, int64_t{kMost} * channels, channels);
  }
}

template <class T>
void Winograd<T>::multiply(const Panel& panel, int chunk, const T* features) const {
  static thread_local Buffer<T> buffer;
  T* products = buffer.reserve(size_t{kTaps} * kMost * kMaxVectors * 16);
  const int quads = walk_.last(chunk) - walk_.first(chunk);
  for (int tap = 0; tap < kTaps; tap++) multiply_tap(panel, tap, quads, features, products);
  write(panel, chunk, products);
}

// The weights of a tap and a panel are small: all of the chunk's quads are multiplied with them
// before those of the next tap are, which are fetched meanwhile.
template <class T>
void Winograd<T>::multiply_tap(const Panel& panel, int tap, int quads, const T* features,
                               T* products) const {
  const int full = kernels->height[panel.vectors], depth = source.channels, width = panel.columns;
  const T* weights = conv->weights(panel) + static_cast<size_t>(tap) * depth * width;
  const T* end = weights + static_cast<size_t>(depth) * width;
  features += static_cast<size_t>(tap) * kMost * depth;
  products += static_cast<size_t>(tap) * kMost * width;
  alignas(64) T unused[kMaxVectors * 16];
  static const float no_bias[kMaxVectors * 16] = {};
  const T* rows[kMaxHeight];
  T* outs[kMaxHeight];
  const char* ahead = reinterpret_cast<const char*>(end);
  for (int i = 0; i < quads;) {
    const int left = quads - i, extra = left - full;
    const bool half = left <= full / 2;
    const bool tall =
        panel.vectors == 2 && kernels->multiply_tall[0] && extra > 0 && extra <= kMostExtra;
    const int height = half ? full / 2 : tall ? left : full;
    for (int m = 0; m < height; m++) {
      rows[m] = features + static_cast<int64_t>(std::min(i + m, quads - 1)) * depth;
      outs[m] = m < left ? products + (i + m) * width : unused;
    }
    const auto multiply = half   ? kernels->multiply_half[panel.vectors]
                          : tall ? kernels->multiply_tall[extra - 1]
                                 : kernels->multiply[panel.vectors];
    multiply({rows, 1, depth, 0, weights, no_bias, nullptr, outs, ahead, width, false});
    ahead += depth * 64;
    i += height;
  }
}

// products[tap][quad of the chunk][column]
template <class T>
void Winograd<T>::write(const Panel& panel, int chunk, T* products) const {
  const int width = panel.columns, channels = conv->shape().out_channels;
  alignas(64) T unused[kMaxVectors * 16];
  for (int i = walk_.first(chunk); i < walk_.last(chunk); i++, products += width) {
    T* row = out + static_cast<int64_t>(quads[i].first) * channels + panel.column;
    T* outs[4];
    for (int pixel = 0; pixel < 4; pixel++) {
      const bool active = quads[i].active >> pixel & 1;
      outs[pixel] = active ? row : unused;
      if (active) row += channels;
    }
    if (conv->edges()) add_missing(panel, quads[i], products);
    kernels->winograd_outputs(products, int64_t{kMost} * width, conv->bias(panel), outs, width);
  }
}

// The corners of Aᵀ m A: of each output the only product that no other one has, and its sign.
template <class T>
void Winograd<T>::add_missing(const Panel& panel, const Quad& quad, T* products) const {
  constexpr int kCorners[4] = {0, 3, 12, 15}, kSigns[4] = {1, -1, -1, 1};
  for (int pixel = 0; pixel < 4; pixel++) {
    if (!(quad.active >> pixel & 1)) continue;
    const T* missing = conv->edges()->row(quad.y + pixel / 2, quad.x + pixel % 2);
    if (!missing) continue;
    T* corner = products + int64_t{kCorners[pixel]} * kMost * panel.columns;
    for (int i = 0; i < panel.columns; i++) {
      const float sum = to_float(corner[i]) + kSigns[pixel] * to_float(missing[panel.column + i]);
      convert(sum, corner[i]);
    }
  }
}

template struct Winograd<float>;
template struct Winograd<bfloat16>;
template struct Winograd<uint8_t>;

}  // namespace las
