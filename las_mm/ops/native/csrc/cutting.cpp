#include "cutting.h"

#include <ATen/Parallel.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <type_traits>

#include "conversion.h"

namespace las {
namespace {

// Rows of weights that a thread cuts at a time.
constexpr int kRows = 32;

// Which entries of a row are taken, in ascending order.
class Selection {
 public:
  Selection(const std::vector<int>& numbers, int row) {
    for (size_t i = 0; i < numbers.size(); i++) {
      if (numbers[i] < 0) continue;
      places_.push_back(static_cast<int>(i));
      numbers_.push_back(numbers[i]);
    }
    is_leading_ = places_.empty() || places_.back() + 1 == static_cast<int>(places_.size());
    in_order_ = true;
    for (size_t i = 1; i < numbers_.size(); i++) {
      in_order_ = in_order_ && numbers_[i] == numbers_[0] + static_cast<int>(i);
    }
    masks_.resize((row + 15) / 16);
    for (int number : numbers_) masks_[number / 16] |= 1 << number % 16;
  }

  size_t size() const { return numbers_.size(); }
  // Whether nothing stands between those that are taken; else where each of them goes.
  bool is_leading() const { return is_leading_; }
  const std::vector<int>& places() const { return places_; }

  // The entries themselves where they follow each other, or in `room`, which has 16 more.
  template <class T>
  const T* take(const T* from, T* room, bool avx512) const {
    if (in_order_) return from + (numbers_.empty() ? 0 : numbers_[0]);
#if defined(__x86_64__)
    if constexpr (std::is_same_v<T, float>) {
      if (avx512) return compress(from, room);
    }
#endif
    for (size_t i = 0; i < numbers_.size(); i++) room[i] = from[numbers_[i]];
    return room;
  }

 private:
#if defined(__x86_64__)
  __attribute__((target("avx512f"))) const float* compress(const float* from, float* room) const {
    float* to = room;
    for (size_t i = 0; i < masks_.size(); i++, from += 16) {
      const __mmask16 mask = masks_[i];
      const __m512 values = _mm512_maskz_compress_ps(mask, _mm512_maskz_loadu_ps(mask, from));
      _mm512_storeu_ps(to, values);
      to += __builtin_popcount(mask);
    }
    return room;
  }
#endif

  bool in_order_, is_leading_;
  std::vector<int> numbers_, places_;
  std::vector<uint16_t> masks_;
};

}  // namespace

template <class T>
LooseConv<T>::LooseConv(const ConvShape& shape, const float* weight, const float* bias,
                        const std::vector<float>& constants, const std::vector<float>& skipped,
                        Algorithm algorithm)
    : shape_(shape),
      algorithm_(algorithm),
      taps_(algorithm == Algorithm::direct ? shape.taps() : kWinogradEdge * kWinogradEdge),
      weights_(static_cast<size_t>(taps_) * shape.depth() * shape.out_channels + 16),
      bias_(bias, bias + shape.out_channels),
      skipped_(skipped),
      constants_(constants) {
  const int depth = shape.depth();
  std::vector<double> totals(static_cast<size_t>(taps_) * shape.out_channels);
  for (int channel = 0; channel < shape.out_channels; channel++) {
    for (int k = 0; k < depth; k++, weight += shape.taps()) {
      float transformed[kWinogradEdge * kWinogradEdge];
      if (algorithm != Algorithm::direct) transform_kernel(weight, transformed);
      const float* values = algorithm == Algorithm::direct ? weight : transformed;
      for (int tap = 0; tap < taps_; tap++) {
        convert(values[tap], weights_[(static_cast<size_t>(tap) * depth + k) * shape.out_channels + channel]);
        if (constants_.empty()) continue;
        totals[static_cast<size_t>(tap) * shape.out_channels + channel] +=
            static_cast<double>(values[tap]) * constants_[k];
      }
    }
  }
  const bool carries = std::any_of(constants_.begin(), constants_.end(), [](float c) { return c; });
  if (carries) totals_.assign(totals.begin(), totals.end());
}

// Some rows of one tap, one per input, cut to some columns.
template <class T>
struct LooseConv<T>::Cut {
  const LooseConv& loose;
  const Selection& selection;
  const std::vector<int>& inputs;
  PackedConv<T>& conv;
  int lanes, step;
  bool avx512;

  // The places of an input's weights in a panel are `step` apart.
  T* place(const Panel& panel, int tap, size_t k) const {
    const size_t width = panel.vectors * lanes;
    return conv.weights_of(panel) + (tap * inputs.size() + k / step * step) * width + k % step;
  }

  void put(const T* values, size_t count, int tap, size_t k) const {
    for (const Panel& panel : conv.panels()) {
      T* to = place(panel, tap, k);
      const int width = panel.vectors * lanes, first = panel.column;
      const int filled = std::clamp(static_cast<int>(count) - first, 0, panel.columns);
      if (step == 1) {
        std::copy_n(values + first, filled, to);
      } else {
        for (int i = 0; i < filled; i++) to[i * step] = values[first + i];
      }
      for (int i = filled; i < width; i++) convert(0.f, to[i * step]);
    }
  }

  void put_all(const T* values, int tap, size_t k) const {
    if (selection.is_leading()) return put(values, selection.size(), tap, k);
    std::vector<T> row(conv.shape().out_channels, T{});
    for (size_t i = 0; i < selection.size(); i++) row[selection.places()[i]] = values[i];
    put(row.data(), row.size(), tap, k);
  }

  // carried: per column, less what these inputs would carry if they were left out; or null.
  void run(int tap, size_t first, size_t last, float* carried) const {
    std::vector<T> room(selection.size() + 16);
    for (size_t k = first; k < last; k++) {
      if (inputs[k] < 0) {
        put(nullptr, 0, tap, k);
        continue;
      }
      const T* values = selection.take(loose.row(tap, inputs[k]), room.data(), avx512);
      put_all(values, tap, k);
      const float constant = carried ? loose.constants_[inputs[k]] : 0.f;
      if (constant == 0) continue;
      for (size_t i = 0; i < selection.size(); i++) carried[i] -= constant * to_float(values[i]);
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

  const Selection selection(outputs, shape_.out_channels);
  const Cut cut{*this, selection, inputs, conv, kernels.lanes, kernels.depth_step,
                kernels.lanes == 16 && std::is_same_v<T, float>};
  const size_t count = selection.size(), chunks = (inputs.size() + kRows - 1) / kRows;
  std::vector<float> carried(carries() ? chunks * taps_ * count : 0);
  at::parallel_for(0, static_cast<int64_t>(chunks) * taps_, 1, [&](int64_t from, int64_t to) {
    for (int64_t job = from; job < to; job++) {
      const size_t first = job / taps_ * kRows, last = std::min(inputs.size(), first + kRows);
      cut.run(static_cast<int>(job % taps_), first, last,
              carries() ? carried.data() + job * count : nullptr);
    }
  });
  std::vector<float> sums;  // [tap][column]
  if (carries()) sums = sum_carried(carried, outputs, count, chunks);
  const auto one = std::find(inputs.begin(), inputs.end(), kOne);
  for (int tap = 0; one != inputs.end() && carries() && tap < taps_; tap++) {
    std::vector<T> row(count);
    for (size_t i = 0; i < count; i++) convert(sums[tap * count + i], row[i]);
    cut.put(row.data(), count, tap, one - inputs.begin());
  }
  for (const Panel& panel : conv.panels()) {
    float* bias = conv.bias_of(panel);
    std::fill_n(bias, panel.vectors * kernels.lanes, 0.f);
    for (int i = 0; i < panel.columns; i++) {
      const size_t column = panel.column + i;
      bias[i] = bias_of(outputs[column]);
      for (int tap = 0; carries() && one == inputs.end() && column < count && tap < taps_; tap++) {
        bias[i] += sums[tap * count + column];
      }
    }
  }
  return conv;
}

// What the inputs left out carry is what all do without what those that are there would.
template <class T>
std::vector<float> LooseConv<T>::sum_carried(const std::vector<float>& carried,
                                             const std::vector<int>& columns, size_t count,
                                             size_t chunks) const {
  std::vector<float> sums(taps_ * count);
  size_t i = 0;
  for (int column : columns) {
    if (column < 0) continue;
    for (int tap = 0; tap < taps_; tap++) {
      float& sum = sums[tap * count + i];
      sum = totals_[static_cast<size_t>(tap) * shape_.out_channels + column];
      for (size_t chunk = 0; chunk < chunks; chunk++) {
        sum += carried[(chunk * taps_ + tap) * count + i];
      }
    }
    i++;
  }
  return sums;
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
