#include "cutting.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "conversion.h"
#include "edges.h"
#include "wide.h"

namespace las {
namespace {

// Rows of weights that a thread cuts at a time, and how many rows ahead they are fetched: those that
// are left out lie in between, so that the hardware does not foresee them.
constexpr int kRows = 16, kRowsAhead = 12;

void subtract(float* sum, float factor, const float* values, size_t count) {
  subtract_scaled(sum, factor, values, count);
}

void subtract(float* sum, float factor, const bfloat16* values, size_t count) {
  for (size_t i = 0; i < count; i++) sum[i] -= factor * to_float(values[i]);
}

}  // namespace

template <class T>
LooseConv<T>::LooseConv(const ConvShape& shape, const float* weight, const float* bias,
                        const std::vector<float>& constants, const std::vector<float>& skipped,
                        Algorithm algorithm)
    : shape_(shape),
      algorithm_(algorithm),
      taps_(algorithm == Algorithm::direct ? shape.taps() : kWinogradEdge * kWinogradEdge),
      bias_(bias, bias + shape.out_channels),
      skipped_(skipped),
      constants_(constants) {
  const int depth = shape.depth();
  const size_t row = static_cast<size_t>(depth) * shape.out_channels;
  const auto memory = allocate_weights(sizeof(T) * taps_ * row);
  weights_ = {memory, reinterpret_cast<T*>(memory.get())};
  std::vector<double> totals(static_cast<size_t>(taps_) * shape.out_channels);
  for (int channel = 0; channel < shape.out_channels; channel++) {
    for (int k = 0; k < depth; k++, weight += shape.taps()) {
      float transformed[kWinogradEdge * kWinogradEdge];
      if (algorithm != Algorithm::direct) transform_kernel(weight, transformed);
      const float* values = algorithm == Algorithm::direct ? weight : transformed;
      T* to = weights_.get() + static_cast<size_t>(k) * shape.out_channels + channel;
      for (int tap = 0; tap < taps_; tap++) {
        convert(values[tap], to[tap * row]);
        if (constants_.empty()) continue;
        totals[static_cast<size_t>(tap) * shape.out_channels + channel] +=
            static_cast<double>(values[tap]) * constants_[k];
      }
    }
  }
  const bool carries = std::any_of(constants_.begin(), constants_.end(), [](float c) { return c; });
  if (carries) totals_.assign(totals.begin(), totals.end());
}

template <class T>
float LooseConv<T>::bias_of(int channel) const {
  if (channel >= 0) return bias_[channel];
  if (channel == kOne) return 1;
  return channel == kZero || skipped_.empty() ? 0 : skipped_[left_out(channel)];
}

std::shared_ptr<char> CutMemory::take(size_t bytes) {
  if (next_ == pieces_.size()) pieces_.push_back({nullptr, 0});
  Piece& piece = pieces_[next_++];
  if (piece.bytes < bytes) piece = {allocate_weights(bytes + bytes / 4), bytes + bytes / 4};
  return piece.memory;
}

namespace {

ConvShape cut_shape(ConvShape shape, size_t inputs, size_t outputs, int groups) {
  shape.groups = groups;
  shape.in_channels = static_cast<int>(inputs) * groups;
  shape.out_channels = static_cast<int>(outputs);
  return shape;
}

template <class T>
PackedConv<T> empty_conv(const ConvShape& shape, const Kernels<T>& kernels, Algorithm algorithm,
                         CutMemory& memory) {
  const size_t bytes = PackedConv<T>::packed_bytes(shape, kernels, algorithm);
  return {shape, kernels, algorithm, memory.take(bytes)};
}

}  // namespace

template <class T>
Cut<T>::Cut(const LooseConv<T>& loose, std::vector<int> inputs, std::vector<int> outputs,
            int groups, const Kernels<T>& kernels, CutMemory& memory, int h, int w)
    : loose_(&loose),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      kernels_(&kernels),
      h_(h),
      w_(w),
      chunks_(static_cast<int>((inputs_.size() + kRows - 1) / kRows)),
      conv_(empty_conv(cut_shape(loose.shape(), inputs_.size(), outputs_.size(), groups), kernels,
                       loose.algorithm(), memory)) {
  select();
  const size_t sums = static_cast<size_t>(chunks_) * loose.taps() * numbers_.size();
  if (loose.carries()) carried_.resize(sums);
}

// Which entries of a row of weights are taken.
template <class T>
void Cut<T>::select() {
  for (size_t i = 0; i < outputs_.size(); i++) {
    if (outputs_[i] < 0) continue;
    places_.push_back(static_cast<int>(i));
    numbers_.push_back(outputs_[i]);
  }
  is_leading_ = places_.empty() || places_.back() + 1 == static_cast<int>(places_.size());
  bits_.resize((loose_->shape().out_channels + 15) / 16);
  for (size_t i = 0; i < numbers_.size(); i++) {
    in_order_ = in_order_ && numbers_[i] == numbers_[0] + static_cast<int>(i);
    bits_[numbers_[i] / 16] |= 1 << numbers_[i] % 16;
  }
}

template <class T>
void Cut<T>::fetch(int tap, int input) const {
  if (input < 0) return;
  const char* row = reinterpret_cast<const char*>(loose_->row(tap, input));
  const size_t bytes = sizeof(T) * loose_->shape().out_channels;
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i);
}

// The entries themselves where they follow each other, or in `room`, which has 16 more.
template <class T>
const T* Cut<T>::take(const T* row, T* room) const {
  if (in_order_) return row + (numbers_.empty() ? 0 : numbers_[0]);
  if constexpr (std::is_same_v<T, float>) {
    compress(row, bits_.data(), loose_->shape().out_channels, room);
  } else {
    for (size_t i = 0; i < numbers_.size(); i++) room[i] = row[numbers_[i]];
  }
  return room;
}

// The weights of some inputs from the k-th on: rows of `columns`, those behind them are zero. Panel by
// panel: the same places of all panels at a time would fall on the same lines of the cache.
template <class T>
void Cut<T>::put(const T* const* rows, int count, int columns, int tap, size_t k) {
  const int step = kernels_->depth_step;
  for (const Panel& panel : conv_.panels()) {
    const int width = panel.vectors * kernels_->lanes;
    const int filled = std::clamp(columns - panel.column, 0, panel.columns);
    T* to = conv_.weights_of(panel) + (tap * inputs_.size() + k / step * step) * width + k % step;
    if constexpr (std::is_same_v<T, float>) {
      pack_rows(rows, count, panel.column, filled, width, to);
    } else {
      for (int row = 0; row < count; row++) {
        T* place = to + row / step * step * width + row % step;
        for (int i = 0; i < width; i++) {
          place[i * step] = i < filled ? rows[row][panel.column + i] : T{};
        }
      }
    }
  }
}

// Some rows of one tap.
template <class T>
void Cut<T>::run(int job) {
  const int tap = job % loose_->taps(), count = static_cast<int>(numbers_.size());
  const size_t first = job / loose_->taps() * kRows, last = std::min(inputs_.size(), first + kRows);
  static thread_local Buffer<T> memory;
  const size_t room = outputs_.size() + 16;
  memory.reserve((2 * kRows + 1) * room);
  T *zeros = memory.data(), *taken = zeros + room, *spread = taken + kRows * room;
  std::fill_n(zeros, room, T{});
  if (!is_leading_) std::fill_n(spread, kRows * room, T{});
  float* carried = carried_.empty() ? nullptr : carried_.data() + static_cast<size_t>(job) * count;
  const T* rows[kRows];
  for (size_t k = first; k < std::min(first + kRowsAhead, last); k++) fetch(tap, inputs_[k]);
  for (size_t k = first; k < last; k++, taken += room, spread += room) {
    if (k + kRowsAhead < last) fetch(tap, inputs_[k + kRowsAhead]);
    const T*& row = rows[k - first];
    row = zeros;
    if (inputs_[k] < 0) continue;
    row = take(loose_->row(tap, inputs_[k]), taken);
    const float constant = carried ? loose_->constant(inputs_[k]) : 0.f;
    if (constant != 0) subtract(carried, constant, row, count);
    if (is_leading_) continue;
    for (int i = 0; i < count; i++) spread[places_[i]] = row[i];
    row = spread;
  }
  put(rows, static_cast<int>(last - first), is_leading_ ? count : outputs_.size(), tap, first);
}

// [tap][column]: what the inputs left out carry is what all do without what those that are there would.
template <class T>
std::vector<float> Cut<T>::sum_carried() const {
  const size_t count = numbers_.size(), columns = outputs_.size();
  const int taps = loose_->taps();
  std::vector<float> sums(taps * columns);
  for (int tap = 0; tap < taps; tap++) {
    for (size_t i = 0; i < count; i++) {
      float& sum = sums[tap * columns + places_[i]];
      sum = loose_->total(tap, numbers_[i]);
      for (int chunk = 0; chunk < chunks_; chunk++) {
        sum += carried_[(static_cast<size_t>(chunk) * taps + tap) * count + i];
      }
    }
  }
  return sums;
}

// The same of the kernel's taps, given those of what Winograd's algorithm makes of it: G g Gᵀ, of which
// the first and the last row are those of g, and the difference of the others the middle one.
template <class T>
std::vector<float> Cut<T>::without_transform(const std::vector<float>& sums) const {
  const size_t columns = outputs_.size();
  std::vector<float> of_taps(9 * columns);
  const auto add = [&](int tap, int from, float sign) {
    for (size_t i = 0; i < columns; i++) of_taps[tap * columns + i] += sign * sums[from * columns + i];
  };
  constexpr int kRow[4] = {0, 1, 1, 2};
  constexpr float kSign[4] = {1, 1, -1, 1};
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 4; j++) add(3 * kRow[i] + kRow[j], 4 * i + j, kSign[i] * kSign[j]);
  }
  return of_taps;
}

template <class T>
PackedConv<T> Cut<T>::finish() {
  const size_t columns = outputs_.size();
  std::vector<float> bias(columns);
  for (size_t i = 0; i < columns; i++) bias[i] = loose_->bias_of(outputs_[i]);
  if (loose_->carries()) {
    std::vector<float> sums = sum_carried();
    const auto one = std::find(inputs_.begin(), inputs_.end(), kOne);
    for (int tap = 0; one != inputs_.end() && tap < loose_->taps(); tap++) {
      std::vector<T> row(columns);
      for (size_t i = 0; i < columns; i++) convert(sums[tap * columns + i], row[i]);
      const T* values = row.data();
      put(&values, 1, columns, tap, one - inputs_.begin());
    }
    if (one == inputs_.end()) {
      if (loose_->algorithm() == Algorithm::winograd) sums = without_transform(sums);
      for (size_t i = 0; i < sums.size(); i++) bias[i % columns] += sums[i];
      if (conv_.shape().kernel > 1) {
        conv_.set_edges(std::make_shared<const Edges<T>>(conv_.shape(), h_, w_, sums));
      }
    }
  }
  for (const Panel& panel : conv_.panels()) {
    float* to = conv_.bias_of(panel);
    std::fill_n(to, panel.vectors * kernels_->lanes, 0.f);
    std::copy_n(bias.begin() + panel.column, panel.columns, to);
  }
  return std::move(conv_);
}

template class LooseConv<float>;
template class LooseConv<bfloat16>;
template class Cut<float>;
template class Cut<bfloat16>;

}  // namespace las
