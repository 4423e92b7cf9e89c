#include "cutting.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "conversion.h"

namespace las {
namespace {

// Whether numbers follow each other, in runs of that length.
bool follow(const int* columns, int count, int run) {
  if (count % run) return false;
  for (int i = 0; i < count; i++) {
    if (i % run && columns[i] != columns[i - 1] + 1) return false;
  }
  return true;
}

}  // namespace

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
  bool in_order, in_pairs;
  T* packed;

  T* place(size_t k) const {
    return packed + (static_cast<size_t>(tap) * inputs.size() + k / step * step) * width + k % step;
  }
  // What the inputs left out carry is what all do without what those that are there would.
  void run(float* carried) const {
    if (carried) {
      const float* totals = loose.totals_.data() + static_cast<size_t>(tap) * loose.columns();
      for (int i = 0; i < panel.columns; i++) carried[i] = totals[columns[i]];
    }
    size_t one = inputs.size();
    for (size_t k = 0; k < inputs.size(); k++) {
      T* to = place(k);
      if (inputs[k] == kOne) one = k;
      const int filled = inputs[k] < 0 ? 0 : panel.columns;
      for (int i = filled; i < width; i++) convert(0.f, to[i * step]);
      if (!filled) continue;
      take(loose.row(tap, inputs[k]), to);
      const float constant = carried ? loose.constants_[inputs[k]] : 0.f;
      if (constant != 0) carry(constant, to, carried);
    }
    if (one == inputs.size() || !carried) return;
    for (int i = 0; i < panel.columns; i++) convert(carried[i], place(one)[i * step]);
  }

  void take(const T* from, T* to) const {
    if (step == 1 && in_order) {
      std::copy_n(from + columns[0], panel.columns, to);
    } else if (step == 1 && in_pairs) {
      for (int i = 0; i < panel.columns; i += 2) std::memcpy(to + i, from + columns[i], 2 * sizeof(T));
    } else if (step == 1) {
      for (int i = 0; i < panel.columns; i++) to[i] = from[columns[i]];
    } else {
      for (int i = 0; i < panel.columns; i++) to[i * step] = from[columns[i]];
    }
  }

  void carry(float constant, const T* weights, float* carried) const {
    if (step == 1) {
      for (int i = 0; i < panel.columns; i++) carried[i] -= constant * to_float(weights[i]);
    } else {
      for (int i = 0; i < panel.columns; i++) carried[i] -= constant * to_float(weights[i * step]);
    }
  }
};

std::shared_ptr<char> CutMemory::take(size_t bytes) {
  if (next_ == pieces_.size()) pieces_.push_back({nullptr, 0});
  Piece& piece = pieces_[next_++];
  if (piece.bytes < bytes) piece = {allocate_weights(bytes + bytes / 4), bytes + bytes / 4};
  return piece.memory;
}

template <class T>
PackedConv<T> LooseConv<T>::cut(const std::vector<int>& inputs, const std::vector<int>& outputs,
                                int groups, const Kernels<T>& kernels,
                                CutMemory& memory) const {
  ConvShape shape = shape_;
  shape.groups = groups;
  shape.in_channels = static_cast<int>(inputs.size()) * groups;
  shape.out_channels = static_cast<int>(outputs.size());
  const size_t bytes = PackedConv<T>::packed_bytes(shape, kernels, algorithm_);
  PackedConv<T> conv(shape, kernels, algorithm_, memory.take(bytes));
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
      const int* chosen = columns.data() + panel.column;
      const Cut cut{*this, inputs, chosen, panel, tap, panel.vectors * kernels.lanes,
                    kernels.depth_step, follow(chosen, panel.columns, panel.columns),
                    follow(chosen, panel.columns, 2), conv.weights_of(panel)};
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
