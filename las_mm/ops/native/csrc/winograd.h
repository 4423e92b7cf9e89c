// A 3×3 convolution by Winograd's F(2×2, 3×3) at listed 2×2 quads of its output: the inputs of a quad
// are transformed to 16 rows, each of which is multiplied with weights of its own, and the products
// are transformed back.
#pragma once

#include "gemm.h"

namespace las {

// Two by two pixels of an output of which some are listed, those whose bit in `active` is set: upper
// left, upper right, lower left, lower right. They have the places from `first` on in the list.
struct Quad {
  int image;
  uint16_t y, x;
  uint8_t active;
  int first;
};

// relu(conv(source)), for the listed pixels of each quad.
template <class T>
struct Winograd {
  const PackedConv<T>* conv = nullptr;
  const Kernels<T>* kernels = nullptr;
  Rows<const T> source;
  T* out = nullptr;  // by places in the list
  const T* zeros = nullptr;
  const Quad* quads = nullptr;
  int count = 0;
  T* features = nullptr;  // feature_count() elements, for the transformed inputs of all quads

  static constexpr int kTaps = kWinogradEdge * kWinogradEdge;
  // Quads in the largest chunk: enough that what their products take covers the reading of weights
  // from memory.
  static constexpr int kLargestChunk = 4 * kChunk, kMost = kLargestChunk + kMostExtra;

  // at_once: whether chunks will be computed by chunk().
  void prepare(int threads, bool at_once);
  int chunks() const { return walk_.chunks(); }
  // Two phases: first the transformed inputs, a job per chunk; then jobs() products.
  void transform(int chunk) const { transform(chunk, features_of(chunk)); }
  int jobs() const { return walk_.jobs(); }
  void job(int index) const;
  // Or all of a chunk at once.
  void chunk(int index) const;
  // The places in the list of a chunk's pixels.
  int first_place(int chunk) const { return quads[walk_.first(chunk)].first; }
  int last_place(int chunk) const { return quads[walk_.last(chunk)].first; }

  // Elements of the features of a chunk, and of all.
  static size_t chunk_features(const PackedConv<T>& conv) {
    return static_cast<size_t>(kTaps) * kMost * conv.shape().in_channels;
  }
  size_t feature_count() const { return chunks() * chunk_features(*conv); }

 private:
  T* features_of(int chunk) const { return features + chunk * chunk_features(*conv); }
  void transform(int chunk, T* features) const;
  void multiply(const Panel& panel, int chunk, const T* features) const;
  void multiply_tap(const Panel& panel, int tap, int quads, const T* features, T* products) const;
  void write(const Panel& panel, int chunk, T* products) const;
  void add_missing(const Panel& panel, const Quad& quad, T* products) const;

  Walk<T> walk_;
};

}  // namespace las
