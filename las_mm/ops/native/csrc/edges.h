// Constants that a convolution's pixels get beside the bias, near the edges of an image.
#pragma once

#include <algorithm>
#include <vector>

#include "packing.h"

namespace las {

// Channels that are left out carry a constant at every pixel. Inside of an image their products are
// one more bias; where taps lie outside, those taps' part of it is missing.
template <class T>
class Edges {
 public:
  // h, w: of the convolution's input. sums: [tap][column], what the channels left out add there.
  Edges(const ConvShape& shape, int h, int w, const std::vector<float>& sums);

  // What is missing at an output pixel: a row of columns; null where all taps lie inside.
  const T* row(int y, int x) const {
    const int number = class_of(y, h_) * classes_ + class_of(x, w_);
    return number == 0 ? nullptr : rows_.data() + static_cast<size_t>(number) * shape_.out_channels;
  }

 private:
  // Taps that lie outside on either side of a line, as one number; 0 for none.
  int class_of(int at, int size) const {
    const int first = at * shape_.stride - shape_.padding();
    const int last = first + (shape_.kernel - 1) * shape_.dilation;
    const int before = first < 0 ? (-first + shape_.dilation - 1) / shape_.dilation : 0;
    const int behind = last >= size ? (last - size) / shape_.dilation + 1 : 0;
    return before * (shape_.kernel / 2 + 1) + behind;
  }
  bool is_outside(int tap, int number) const {
    const int sides = shape_.kernel / 2 + 1;
    return tap < number / sides || tap >= shape_.kernel - number % sides;
  }

  ConvShape shape_;
  int h_, w_, classes_;
  std::vector<T> rows_;  // [class of y][class of x][column]
};

}  // namespace las
