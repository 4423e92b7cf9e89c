// Which groups of channels a block computes for an image: LAUDNet's masker of linear layers.
#pragma once

#include <vector>

#include "kernels.h"

namespace las {

// In double precision, (inputs, outputs) and (outputs).
struct Linear {
  int inputs, outputs;
  std::vector<double> weights, bias;
};

// Means of the pixels of an image, then linear layers with a ReLU between them; a group is computed
// where the last one's output is not negative.
class Decider {
 public:
  // layers: one or two.
  explicit Decider(std::vector<Linear> layers) : layers_(std::move(layers)) {}

  // x: (pixels, inputs). mask: (outputs), written.
  template <class T>
  void decide(const T* x, int pixels, float* mask) const;

  int groups() const { return layers_.back().outputs; }

 private:
  const std::vector<Linear> layers_;
};

}  // namespace las
