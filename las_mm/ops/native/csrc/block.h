// A dynamic residual block: a masker and packed convolutions.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "gating.h"
#include "plan.h"

namespace las {

// Where relu(identity) comes from, and where the output goes.
enum class Identity {
  in_place,  // x itself, which becomes the output; not negative if a ReLU follows the sum
  copied,    // x itself, which stays as it is
  convolved,  // the shortcut's convolution of x
  given,     // already in the output
  none,      // the branch alone is the output, and all pixels are active
};

// The masker's difference row (Eq. 3).
struct Masker {
  Masker(std::vector<double> weights, double bias);

  // weights · row.
  template <class T>
  double margin(const T* row) const;

  const std::vector<double> weights;
  const double bias;
  std::vector<float> rounded;  // weights in single precision
  double tolerance;            // see Opinions
};

template <class T>
struct Call {
  const T* x = nullptr;  // (n, h, w, in_channels)
  int n = 0, h = 0, w = 0;
  Identity identity = Identity::copied;
  T* out = nullptr;                   // (n, out_h, out_w, out_channels)
  const float* decided = nullptr;     // (n, grid_h, grid_w): a mask to use instead of the masker's
  float* mask = nullptr;              // (n, grid_h, grid_w), written; or null
  Opinion* opinions = nullptr;        // (n, h, w): the masker's, of x
  bool told = false;                  // whether blocks before have written them
  const PackedConv<T>* next = nullptr;  // the convolution that comes after the block
  std::vector<Listener> followers;    // maskers further on, told of every pixel that is written
};

// Whether the second convolution of a bottleneck is faster by Winograd's algorithm, for these kernels.
template <class T>
bool suits_winograd(const ConvShape& shape, const Kernels<T>& kernels);

// Whether it is then needed for the direct algorithm as well: for single pixels, and for maps so small
// that reading more weights takes longer than it spares.
bool is_needed_directly(const ConvShape& shape, int granularity);

template <class T>
class Block {
 public:
  // convs: two or three, the last one without ReLU; the second of three may be packed for Winograd,
  // without a gate. direct: it again, packed for the other algorithm, where is_needed_directly();
  // else null. gate (of three), shortcut, masker: null where there is none.
  // acts: after each convolution but the last, and after the sum, where limits have no effect on
  // skipped pixels.
  Block(std::vector<PackedConv<T>> convs, std::vector<Activation> acts,
        std::unique_ptr<PackedConv<T>> direct,
        std::unique_ptr<Gate> gate, std::shared_ptr<const PackedConv<T>> shortcut,
        std::shared_ptr<const Masker> masker, int granularity, const Kernels<T>& kernels);

  Geometry geometry(int n, int h, int w) const;

  // Whether the second and third convolution run in one pass over the active pixels.
  bool is_together() const;

  // Whether the second convolution is computed by quads where that pays.
  bool is_by_quads() const { return convs[1].algorithm() == Algorithm::winograd; }
  // What computes it elsewhere.
  const PackedConv<T>& middle() const { return direct ? *direct : convs[1]; }

  const PackedConv<T>& last() const { return convs.back(); }

  // Bytes of a pixel of x, or of what the first convolution makes of it if that is many times more.
  size_t pixel_bytes() const;

  const std::vector<PackedConv<T>> convs;
  const std::vector<Activation> acts;
  // Of bytes: between the shortcut's convolution and the sum, see Rescale.
  Rescale to_shortcut, with_shortcut;
  const std::unique_ptr<PackedConv<T>> direct;
  const std::unique_ptr<Gate> gate;
  const std::shared_ptr<const PackedConv<T>> shortcut;
  const std::shared_ptr<const Masker> masker;
  const int granularity;
  const Kernels<T>& kernels;

  // r_th of Sec. 3.4, for the dilated rate: above it masker and first convolution run in one pass
  // over the whole of x.
  std::atomic<float> fuse_above;
  // Features computed at a time: they should stay in the cache between the passes over them.
  std::atomic<size_t> band_bytes;
  // Dilated rate of the last execution, the prediction for the next.
  mutable std::atomic<float> dilated_rate{1.f};
};

}  // namespace las
