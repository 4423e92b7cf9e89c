// A block of which each image needs some inner channels alone (LAUDNet's channel skipping).
#pragma once

#include "block.h"
#include "cutting.h"

namespace las {

// The 1×1 convolutions of squeeze-and-excitation, in float: (squeezed, channels) and back.
struct LooseGate {
  int channels, squeezed;
  std::vector<float> squeeze, squeeze_bias, excite, excite_bias;
};

template <class T>
class ChannelBlock {
 public:
  // convs: two or three, the last one without ReLU. winograd: the second of three once more, for that
  // algorithm; null where it does not suit. gate, shortcut, masker: as of a Block.
  ChannelBlock(std::vector<LooseConv<T>> convs, std::unique_ptr<LooseConv<T>> winograd,
               std::unique_ptr<LooseGate> gate, std::shared_ptr<const PackedConv<T>> shortcut,
               std::shared_ptr<const Masker> masker, int granularity, const Kernels<T>& kernels,
               const Kernels<float>& exact);

  int channels() const { return convs_[0].shape().out_channels; }
  const Kernels<T>& kernels() const { return kernels_; }
  bool may_write_over() const { return !shortcut_; }

  // The block for an image of h by w pixels. mask: (channels), computed where not 0. One at a time in a
  // thread, as the next has the same memory.
  std::unique_ptr<Block<T>> narrow(const float* mask, int h, int w, int threads) const;

 private:
  struct Chosen {
    std::vector<int> hidden;  // outputs of the first convolution
    std::vector<int> inputs;  // of the second one, the same channels
    std::vector<int> middle;  // outputs of the second of three
    std::vector<int> last;    // inputs of the third
    int groups = 1;
    bool by_winograd = false;
  };

  Chosen choose(const float* mask, int pixels) const;
  Chosen choose_groups(const float* mask) const;
  std::vector<Cut<T>> begin_cuts(const Chosen& chosen, int h, int w) const;
  std::unique_ptr<Gate> cut_gate(const std::vector<int>& channels) const;

  const std::vector<LooseConv<T>> convs_;
  const std::unique_ptr<LooseConv<T>> winograd_;
  const std::unique_ptr<LooseGate> gate_;
  const std::shared_ptr<const PackedConv<T>> shortcut_;
  const std::shared_ptr<const Masker> masker_;
  const int granularity_;
  const Kernels<T>& kernels_;
  const Kernels<float>& exact_;
};

}  // namespace las
