#include "cutting.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "conversion.h"

namespace las {

template <class T>
LooseConv<T>::LooseConv(const ConvShape& shape, const float* weight, const float* bias,
                        const std::vector<float>& constants, const std::vector<float>& skipped,
                        Algorithm algorithm)
    : shape_(shape),
      algorithm_(algorithm),
      taps_(algorithm == Algorithm::direct ? shape.taps() : kWinogradEdge * kWinogradEdge),
      weights_(static_cast<size_t>(taps_) * shape.depth() * columns()),
      bias_(bias, bias + shape.out_channels),
      skipped_(skipped),
      constants_(constants) {
  const int depth = shape.depth();
  std::vector<double> totals(static_cast<size_t>(taps_) * columns());
  for (int channel = 0; channel < shape.out_channels; channel++) {
    for (int k = 0; k < depth; k++, weight += shape.taps()) {
      float transformed[kWinogradEdge * kWinogradEdge];
      if (algorithm != Algorithm::direct) transform_kernel(weight, transformed);
      const float* values = algorithm == Algorithm::direct ? weight : transformed;
      for (int tap = 0; tap < taps_; tap++) {
        convert(values[tap], weights_[(static_cast<size_t>(tap) * depth + k) * columns() + channel]);
        if (constants_.empty()) continue;
        totals[static_cast<size_t>(tap) * columns() + channel] +=
            static_cast<double>(values[tap]) * constants_[k];
      }
    }
  }
  const bool carries = std::any_of(constants_.begin(), constants_.end(), [](float c) { return c; });
  if (carries) totals_.assign(totals.begin(), totals.end());
}

// One panel and tap of a cut: rows of weights, one per input.
template <class T>
struct LooseConv<T>::Cut {
  const LooseConv& loose;
  const std::vector<int>& inputs;
  const int* columns;  // of the panel: where in a row
  const Panel& panel;
  int tap, width, step;
  T* packed;

  T* place(size_t k) const {
    return packed + (static_cast<size_t>(tap) * inputs.size() + k / step * step) * width + k % step;
  }
  // What the inputs left out carry is what all do without what those that are there would.
  void run(float* carried) const {
    const size_t stride = step;
    if (carried) {
      const float* totals = loose.totals_.data() + static_cast<size_t>(tap) * loose.columns();
      for (int i = 0; i < panel.columns; i++) carried[i] = totals[columns[i]];
    }
    size_t one = inputs.size();
    for (size_t k = 0; k < inputs.size(); k++) {
      T* to = place(k);
      if (inputs[k] < 0) {
        if (inputs[k] == kOne) one = k;
        for (int i = 0; i < width; i++) convert(0.f, to[i * stride]);
        continue;
      }
      const T* from = loose.row(tap, inputs[k]);
      for (int i = 0; i < panel.columns; i++) to[i * stride] = from[columns[i]];
      for (int i = panel.columns; i < width; i++) convert(0.f, to[i * stride]);
      const float constant = carried ? loose.constants_[inputs[k]] : 0.f;
      if (constant == 0) continue;
      for (int i = 0; i < panel.columns; i++) {
        carried[i] -= constant * to_float(from[columns[i]]);
      }
    }
    if (one == inputs.size() || !carried) return;
    for (int i = 0; i < panel.columns; i++) convert(carried[i], place(one)[i * stride]);
  }
};

template <class T>
PackedConv<T> LooseConv<T>::cut(const std::vector<int>& inputs, const std::vector<int>& outputs,
                                int groups, const Kernels<T>& kernels) const {
  ConvShape shape = shape_;
  shape.groups = groups;
  shape.in_channels = static_cast<int>(inputs.size()) * groups;
  shape.out_channels = static_cast<int>(outputs.size());
  PackedConv<T> conv(shape, kernels, algorithm_);
  std::vector<int> columns(outputs.size());
  for (size_t i = 0; i < outputs.size(); i++) {
    columns[i] = outputs[i] >= 0 ? outputs[i] : shape_.out_channels;
  }
  const bool in_bias = carries() && std::find(inputs.begin(), inputs.end(), kOne) == inputs.end();
  std::vector<float> carried(carries() ? taps_ * outputs.size() : 0);
  const int panels = static_cast<int>(conv.panels().size());
  at::parallel_for(0, static_cast<int64_t>(panels) * taps_, 1, [&](int64_t first, int64_t last) {
    for (int64_t job = first; job < last; job++) {
      const Panel& panel = conv.panels()[job / taps_];
      const int tap = static_cast<int>(job % taps_);
      const Cut cut{*this, inputs, columns.data() + panel.column, panel, tap,
                    panel.vectors * kernels.lanes, kernels.depth_step, conv.weights_of(panel)};
      cut.run(carries() ? carried.data() + tap * outputs.size() + panel.column : nullptr);
    }
  });
  for (const Panel& panel : conv.panels()) {
    float* bias = conv.bias_of(panel);
    std::fill_n(bias, panel.vectors * kernels.lanes, 0.f);
    for (int i = 0; i < panel.columns; i++) {
      const int channel = outputs[panel.column + i];
      bias[i] = bias_of(channel);
      for (int tap = 0; in_bias && channel >= 0 && tap < taps_; tap++) {
        bias[i] += carried[tap * outputs.size() + panel.column + i];
      }
    }
  }
  return conv;
}

template <class T>
float LooseConv<T>::bias_of(int channel) const {
  if (channel >= 0) return bias_[channel];
  if (channel == kOne) return 1;
  return channel == kZero || skipped_.empty() ? 0 : skipped_[left_out(channel)];
}

template class LooseConv<float>;
template class LooseConv<bfloat16>;

}  // namespace las
