#include "gating.h"

#include <cmath>

namespace las {
namespace {

// Rows of a part.
constexpr int kPartRows = 32;

}  // namespace

template <class T>
void Gating<T>::run(Team::Member& member, int first_image, int images, const Sites& sites,
                    T* rows) {
  const size_t width = channels();
  const auto sum = [&](int job) {
    const Part& part = space_.parts[job];
    float* sums = space_.sums.data() + job * width;
    kernels_.sum_rows(rows + part.first * width, part.last - part.first, width, sums);
  };
  const auto scale = [&](int job) {
    const Part& part = space_.parts[job];
    const float* gates = space_.gates.data() + part.image * width;
    kernels_.scale_rows(rows + part.first * width, part.last - part.first, width, gates);
  };
  member.phase([&] { return cut(first_image, images, sites); }, sum);
  member.phase([&] { return prepare_squeeze(images); }, [&](int job) { squeeze_.job(job); });
  member.phase([&] { return prepare_excite(images); }, [&](int job) { excite_.job(job); });
  member.phase([&] { return prepare_scale(images); }, scale);
}

// Cut each image's rows into parts, from its first row on.
template <class T>
int Gating<T>::cut(int first_image, int images, const Sites& sites) {
  space_.parts.clear();
  const Site *row = sites.buffer.data(), *end = row + sites.count;
  for (int image = 0; image < images; image++) {
    const auto is_before = [&](const Site& site) { return site.image <= first_image + image; };
    const Site* last = std::partition_point(row, end, is_before);
    while (row < last) {
      const int first = static_cast<int>(row - sites.buffer.data());
      const int count = std::min<int>(kPartRows, last - row);
      space_.parts.push_back({image, first, first + count});
      row += count;
    }
  }
  space_.sums.reserve(space_.parts.size() * channels());
  return static_cast<int>(space_.parts.size());
}

// The means of all images; that of no rows is zero.
template <class T>
int Gating<T>::prepare_squeeze(int images) {
  if (space_.parts.empty()) return 0;
  const size_t width = channels();
  std::vector<double>& totals = space_.totals;
  totals.assign(images * width, 0);
  std::vector<int> counts(images);
  for (size_t i = 0; i < space_.parts.size(); i++) {
    const Part& part = space_.parts[i];
    const float* sums = space_.sums.data() + i * width;
    for (size_t c = 0; c < width; c++) totals[part.image * width + c] += sums[c];
    counts[part.image] += part.last - part.first;
  }
  float* means = space_.means.reserve(totals.size());
  for (size_t i = 0; i < totals.size(); i++) {
    means[i] = static_cast<float>(totals[i] / std::max(1, counts[i / width]));
  }
  float* squeezed = space_.squeezed.reserve(images * gate_.squeeze.shape().out_channels);
  space_.sites.assign(images, {0, 0, 0});
  squeeze_ = layer(gate_.squeeze, means, squeezed, images);
  squeeze_.next = &gate_.excite;
  return squeeze_.prepare(threads_);
}

template <class T>
int Gating<T>::prepare_excite(int images) {
  if (space_.parts.empty()) return 0;
  float* gates = space_.gates.reserve(images * channels());
  excite_ = layer(gate_.excite, space_.squeezed.data(), gates, images);
  excite_.act.on = false;
  return excite_.prepare(threads_);
}

template <class T>
int Gating<T>::prepare_scale(int images) {
  if (space_.parts.empty()) return 0;
  float* gates = space_.gates.data();
  for (int i = 0; i < images * channels(); i++) gates[i] = 1 / (1 + std::exp(-gates[i]));
  return static_cast<int>(space_.parts.size());
}

template <class T>
Gemm<float> Gating<T>::layer(const PackedConv<float>& conv, const float* in, float* out,
                             int images) const {
  Gemm<float> gemm;
  gemm.conv = &conv;
  gemm.kernels = &gate_.kernels;
  gemm.source = {in, conv.shape().in_channels, 0, 0, 0, true};
  gemm.out = {out, conv.shape().out_channels, 0, 0, 0, true};
  gemm.sites = space_.sites.data();
  gemm.count = images;
  return gemm;
}

template class Gating<float>;
template class Gating<bfloat16>;
template class Gating<uint8_t>;

}  // namespace las
