#include "edges.h"

#include "conversion.h"

namespace las {

template <class T>
Edges<T>::Edges(const ConvShape& shape, int h, int w, const std::vector<float>& sums)
    : shape_(shape), h_(h), w_(w) {
  const int sides = shape.kernel / 2 + 1, columns = shape.out_channels;
  classes_ = sides * sides;
  std::vector<float> missing(columns);
  rows_.resize(static_cast<size_t>(classes_) * classes_ * columns);
  for (int number = 1; number < classes_ * classes_; number++) {
    std::fill(missing.begin(), missing.end(), 0.f);
    for (int tap = 0; tap < shape.taps(); tap++) {
      const bool outside = is_outside(tap / shape.kernel, number / classes_) ||
                           is_outside(tap % shape.kernel, number % classes_);
      if (!outside) continue;
      const float* sum = sums.data() + static_cast<size_t>(tap) * columns;
      for (int i = 0; i < columns; i++) missing[i] -= sum[i];
    }
    T* row = rows_.data() + static_cast<size_t>(number) * columns;
    for (int i = 0; i < columns; i++) convert(missing[i], row[i]);
  }
}

template class Edges<float>;
template class Edges<bfloat16>;
template class Edges<uint8_t>;

}  // namespace las
