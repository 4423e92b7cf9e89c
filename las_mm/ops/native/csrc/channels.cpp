#include "channels.h"

#include <algorithm>
#include <atomic>
#include <numeric>

#include "team.h"

namespace las {
namespace {

std::vector<int> all(int count) {
  std::vector<int> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// With channels of zeros, as many as make a positive multiple.
std::vector<int> padded(std::vector<int> numbers, size_t multiple) {
  while (numbers.empty() || numbers.size() % multiple) numbers.push_back(kZero);
  return numbers;
}

// Winograd's algorithm needs 16 products for 36, and time for its transforms; of inputs it needs
// whole vectors.
constexpr float kWinogradCost = .58f;
// Of fewer pixels than this, cutting its 16 weights instead of 9 takes longer than it spares.
constexpr int kWinogradPixels = 128;

// All jobs of all convolutions in one go; they take unequal times.
template <class T>
void run_jobs(std::vector<Cut<T>>& cuts, int threads) {
  std::vector<int> firsts{0};
  for (const Cut<T>& cut : cuts) firsts.push_back(firsts.back() + cut.jobs());
  std::atomic<int> next{0};
  run_on_threads(threads, [&](int) {
    size_t index = 0;
    for (int job; (job = next.fetch_add(1, std::memory_order_relaxed)) < firsts.back();) {
      while (job >= firsts[index + 1]) index++;
      cuts[index].run(job - firsts[index]);
    }
  });
}

}  // namespace

template <class T>
ChannelBlock<T>::ChannelBlock(std::vector<LooseConv<T>> convs,
                              std::unique_ptr<LooseConv<T>> winograd,
                              std::unique_ptr<LooseGate> gate,
                              std::shared_ptr<const PackedConv<T>> shortcut,
                              std::shared_ptr<const Masker> masker, int granularity,
                              const Kernels<T>& kernels, const Kernels<float>& exact)
    : convs_(std::move(convs)),
      winograd_(std::move(winograd)),
      gate_(std::move(gate)),
      shortcut_(std::move(shortcut)),
      masker_(std::move(masker)),
      granularity_(granularity),
      kernels_(kernels),
      exact_(exact) {}

template <class T>
typename ChannelBlock<T>::Chosen ChannelBlock<T>::choose(const float* mask,
                                                           int pixels) const {
  Chosen chosen;
  std::vector<int> active;
  for (int channel = 0; channel < channels(); channel++) {
    if (mask[channel] != 0) active.push_back(channel);
  }
  std::vector<int> hidden = active;
  // The residual of a basic block leaves no room for constants beside it.
  if (convs_.size() == 2 && convs_[1].carries()) hidden.push_back(kOne);
  const size_t lanes = kernels_.lanes, step = kernels_.depth_step;
  chosen.by_winograd =
      winograd_ && pixels >= kWinogradPixels &&
      kWinogradCost * padded(hidden, lanes).size() < static_cast<float>(hidden.size());
  chosen.hidden = chosen.inputs = padded(hidden, chosen.by_winograd ? lanes : step);
  chosen.middle = chosen.last = padded(active, chosen.by_winograd ? lanes : step);
  return chosen;
}

// Of a grouped convolution the groups with an active channel are computed, all of each.
template <class T>
typename ChannelBlock<T>::Chosen ChannelBlock<T>::choose_groups(const float* mask) const {
  Chosen chosen;
  const int groups = convs_[1].shape().groups, each = channels() / groups;
  chosen.groups = 0;
  chosen.inputs = all(convs_[1].shape().depth());
  for (int group = 0; group < groups; group++) {
    const float* first = mask + group * each;
    const bool any = std::any_of(first, first + each, [](float m) { return m != 0; });
    if (!any && (chosen.groups || group + 1 < groups)) continue;  // one at least
    chosen.groups++;
    for (int channel = group * each; channel < (group + 1) * each; channel++) {
      const bool active = mask[channel] != 0;
      chosen.hidden.push_back(active ? channel : left_out(channel));
      chosen.middle.push_back(channel);
      chosen.last.push_back(active ? channel : kZero);
    }
  }
  return chosen;
}

template <class T>
std::unique_ptr<Gate> ChannelBlock<T>::cut_gate(const std::vector<int>& channels) const {
  const LooseGate& whole = *gate_;
  const int count = static_cast<int>(channels.size()), squeezed = whole.squeezed;
  std::vector<float> squeeze(static_cast<size_t>(squeezed) * count);
  std::vector<float> excite(static_cast<size_t>(count) * squeezed), excite_bias(count);
  for (int i = 0; i < count; i++) {
    if (channels[i] < 0) continue;
    excite_bias[i] = whole.excite_bias[channels[i]];
    for (int j = 0; j < squeezed; j++) {
      squeeze[j * count + i] = whole.squeeze[j * whole.channels + channels[i]];
      excite[i * squeezed + j] = whole.excite[channels[i] * squeezed + j];
    }
  }
  const ConvShape in{count, squeezed, 1, 1, 1, 1}, out{squeezed, count, 1, 1, 1, 1};
  return std::unique_ptr<Gate>(
      new Gate{{in, squeeze.data(), whole.squeeze_bias.data(), exact_},
               {out, excite.data(), excite_bias.data(), exact_},
               exact_});
}

// Of each convolution, and of the second one again where it is needed by both algorithms.
template <class T>
std::vector<Cut<T>> ChannelBlock<T>::begin_cuts(const Chosen& chosen, int h, int w) const {
  static thread_local CutMemory memory;
  memory.restart();
  std::vector<Cut<T>> cuts;
  const auto cut = [&](const LooseConv<T>& conv, const std::vector<int>& inputs,
                       const std::vector<int>& outputs, int groups = 1) {
    cuts.emplace_back(conv, inputs, outputs, groups, kernels_, memory, h, w);
  };
  cut(convs_[0], all(convs_[0].shape().in_channels), chosen.hidden);
  if (convs_.size() == 2) {
    cut(convs_[1], chosen.inputs, all(convs_[1].shape().out_channels));
    return cuts;
  }
  cut(chosen.by_winograd ? *winograd_ : convs_[1], chosen.inputs, chosen.middle, chosen.groups);
  cut(convs_[2], chosen.last, all(convs_[2].shape().out_channels));
  ConvShape middle = convs_[1].shape();
  middle.in_channels = static_cast<int>(chosen.inputs.size());
  middle.out_channels = static_cast<int>(chosen.middle.size());
  if (chosen.by_winograd && is_needed_directly(middle, granularity_)) {
    cut(convs_[1], chosen.inputs, chosen.middle);
  }
  return cuts;
}

template <class T>
std::unique_ptr<Block<T>> ChannelBlock<T>::narrow(const float* mask, int h, int w,
                                                  int threads) const {
  const ConvShape& first = convs_[0].shape();
  h = first.out_size(h);
  w = first.out_size(w);
  const bool grouped = convs_.size() == 3 && convs_[1].shape().groups > 1;
  const Chosen chosen = grouped ? choose_groups(mask) : choose(mask, h * w);
  std::vector<Cut<T>> cuts = begin_cuts(chosen, h, w);
  run_jobs(cuts, threads);
  std::vector<PackedConv<T>> convs;
  for (size_t i = 0; i < convs_.size(); i++) convs.push_back(cuts[i].finish());
  std::unique_ptr<PackedConv<T>> direct;
  if (cuts.size() > convs.size()) direct = std::make_unique<PackedConv<T>>(cuts.back().finish());
  std::unique_ptr<Gate> gate;
  if (gate_) gate = cut_gate(chosen.last);
  std::vector<Activation> acts(convs.size());
  return std::make_unique<Block<T>>(std::move(convs), std::move(acts), std::move(direct),
                                    std::move(gate), shortcut_, masker_, granularity_, kernels_);
}

template class ChannelBlock<float>;
template class ChannelBlock<bfloat16>;

}  // namespace las
