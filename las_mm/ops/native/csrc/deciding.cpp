#include "deciding.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "conversion.h"
#include "wide.h"

namespace las {
namespace {

// Pixels that are summed by one thread; always the same ones, so that sums do not depend on threads.
constexpr int kPixels = 128;

std::vector<double> pass_through(const Linear& layer, const std::vector<double>& x) {
  std::vector<double> out(layer.bias);
  const double* row = layer.weights.data();
  for (int k = 0; k < layer.inputs; k++, row += layer.outputs) {
    add_scaled(out.data(), x[k], row, layer.outputs);
  }
  return out;
}

void add(double* sum, const float* row, size_t count) { add_row(sum, row, count); }

void add(double* sum, const bfloat16* row, size_t count) {
  for (size_t i = 0; i < count; i++) sum[i] += to_float(row[i]);
}

}  // namespace

template <class T>
void Decider::decide(const T* x, int pixels, float* mask) const {
  const size_t channels = layers_[0].inputs;
  const int parts = (pixels + kPixels - 1) / kPixels;
  std::vector<double> sums(channels * parts);
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; part++) {
      double* sum = sums.data() + part * channels;
      const int end = std::min<int>(pixels, (part + 1) * kPixels);
      for (int pixel = part * kPixels; pixel < end; pixel++) {
        add(sum, x + pixel * channels, channels);
      }
    }
  });
  std::vector<double> values(sums.begin(), sums.begin() + channels);
  for (int part = 1; part < parts; part++) {
    for (size_t c = 0; c < channels; c++) values[c] += sums[part * channels + c];
  }
  for (double& value : values) value /= pixels;
  for (size_t i = 0; i < layers_.size(); i++) {
    if (i > 0) {
      for (double& value : values) value = std::max(value, 0.);
    }
    values = pass_through(layers_[i], values);
  }
  for (int i = 0; i < groups(); i++) mask[i] = values[i] >= 0;
}

template void Decider::decide(const float*, int, float*) const;
template void Decider::decide(const bfloat16*, int, float*) const;

}  // namespace las
