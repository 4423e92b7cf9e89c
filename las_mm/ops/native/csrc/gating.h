// Squeeze-and-excitation: rows are scaled by a gate computed from their mean, image by image.
#pragma once

#include "plan.h"
#include "team.h"

namespace las {

// gate = sigmoid(W2 · relu(W1 · mean + b1) + b2), in single precision whatever the features are.
struct Gate {
  PackedConv<float> squeeze, excite;
  const Kernels<float>& kernels;
};

// Some rows of one image; always the same ones, so that sums do not depend on what is computed
// beside it.
struct Part {
  int image, first, last;
};

// Memory that executions use one after another.
struct GatingSpace {
  std::vector<Part> parts;
  std::vector<double> totals;
  std::vector<Site> sites;  // one per image; the layers ask for them but do not look
  Buffer<float> sums, means, squeezed, gates;
};

template <class T>
class Gating {
 public:
  static constexpr int kPhases = 4;

  Gating(const Gate& gate, const Kernels<T>& kernels, GatingSpace& space, int threads)
      : gate_(gate), kernels_(kernels), space_(space), threads_(threads) {}

  // What each thread does. rows: one per site; the sites are those of some whole images.
  void run(Team::Member& member, int first_image, int images, const Sites& sites, T* rows);

 private:
  int cut(int first_image, int images, const Sites& sites);
  int prepare_squeeze(int images);
  int prepare_excite(int images);
  int prepare_scale(int images);
  Gemm<float> layer(const PackedConv<float>& conv, const float* in, float* out, int images) const;
  int channels() const { return gate_.squeeze.shape().in_channels; }

  const Gate& gate_;
  const Kernels<T>& kernels_;
  GatingSpace& space_;
  const int threads_;
  Gemm<float> squeeze_, excite_;
};

}  // namespace las
