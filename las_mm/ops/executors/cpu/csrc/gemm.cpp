#include "gemm.h"

#include <algorithm>

namespace las {
namespace {

// Bring memory near; rows lie scattered, so the hardware does not foresee them.
void fetch(const void* start, int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(start) + i);
}

// How far ahead of its use memory is fetched for maskers, in elements: rows pass by faster than the
// hardware follows.
constexpr int kAhead = 4096;

}  // namespace

template <class T>
void tell(const std::vector<Listener>& listeners, const Kernels<T>& kernels,
          const Rows<const T>& rows, const Site* sites, int count, bool fresh) {
  int pixels[kChunk];
  for (int done = 0; done < count; done += kChunk) {
    const int some = std::min(kChunk, count - done);
    for (int i = 0; i < some; i++) {
      pixels[i] = static_cast<int>(rows.offset(sites[done + i]) / rows.channels);
    }
    kernels.opine(rows.base, pixels, some, rows.channels, listeners.data(),
                  static_cast<int>(listeners.size()), fresh ? kAhead : 0);
  }
}

template <class T>
int Gemm<T>::prepare(int threads) {
  walk_.begin(*conv, next, *kernels, count, source.channels * sizeof(T), threads);
  return walk_.jobs();
}

template <class T>
void Gemm<T>::job(int index) const {
  const auto job = walk_.job(index);
  const int first = walk_.first(job.chunk), last = walk_.last(job.chunk);
  if (listeners && job.panel == 0) {
    tell(*listeners, *kernels, source, sites + first, last - first, true);
  }
  multiply(conv->panels()[job.panel], first, last, walk_.ahead(job));
}

template <class T>
void Gemm<T>::range(int first, int last) const {
  for (const Panel& panel : conv->panels()) multiply(panel, first, last, nullptr);
}

template <class T>
void Gemm<T>::multiply(const Panel& panel, int first, int last, const char* ahead) const {
  const ConvShape& shape = conv->shape();
  const int full = kernels->height[panel.vectors], taps = shape.taps();
  int64_t deltas[kMaxKernel * kMaxKernel];
  for (int tap = 0; tap < taps; tap++) {
    const int64_t dy = tap / shape.kernel, dx = tap % shape.kernel;
    deltas[tap] = (dy * source.w + dx) * shape.dilation * source.channels;
  }
  const T* rows[kMaxKernel * kMaxKernel * kMaxHeight];
  const T* residuals[kMaxHeight];
  T* outs[kMaxHeight];
  T unused[kMaxVectors * 16];  // where the rows of a cut tile go
  const Tile<T> tile{rows,
                     taps,
                     shape.depth(),
                     panel.first_channel,
                     conv->weights(panel),
                     conv->bias(panel),
                     residual ? residuals : nullptr,
                     outs,
                     ahead ? ahead : reinterpret_cast<const char*>(conv->weights(panel)),
                     panel.columns,
                     relu};
  const int row_bytes = std::min<int>(shape.depth() * sizeof(T), 1024);
  for (int i = first; i < last;) {
    const int left = last - i, extra = left - full;
    const bool half = left <= full / 2;
    const bool tall = panel.vectors == 2 && kernels->multiply_tall[0] && extra > 0 &&
                      extra <= kMostExtra;
    const int height = half ? full / 2 : tall ? left : full;
    point_at_taps(rows, height, i, deltas);
    for (int m = 0; m < height; m++) {
      const bool cut = i + m >= last;
      T* row = cut ? unused : out.at(sites[i + m], i + m) + panel.column;
      outs[m] = row;
      residuals[m] = !residual ? nullptr : cut ? zeros : residual + (row - out.base);
      if (residual) fetch(residuals[m], panel.columns * sizeof(T));
    }
    // The next tile's rows, in another job or not: its thread is likely to be this one.
    for (int m = height; taps == 1 && !source.listed && m < 2 * height && i + m < count; m++) {
      const Site& site = sites[i + m];
      const int64_t y = int64_t{site.y} * shape.stride, x = int64_t{site.x} * shape.stride;
      fetch(source.base + source.offset(site.image, y, x), row_bytes);
    }
    const auto multiply = half   ? kernels->multiply_half[panel.vectors]
                          : tall ? kernels->multiply_tall[extra - 1]
                                 : kernels->multiply[panel.vectors];
    multiply(tile);
    i += height;
  }
}

// rows[tap * height + m]: where the input of pixel `first + m` lies under the kernel's tap.
template <class T>
void Gemm<T>::point_at_taps(const T** rows, int height, int first, const int64_t* deltas) const {
  const ConvShape& shape = conv->shape();
  const int taps = shape.taps(), reach = (shape.kernel - 1) * shape.dilation;
  for (int m = 0; m < height; m++) {
    const int index = std::min(first + m, count - 1);
    const Site& site = sites[index];
    if (source.listed) {
      rows[m] = source.at(site, index);
      continue;
    }
    const int64_t y = static_cast<int64_t>(site.y) * shape.stride - shape.padding();
    const int64_t x = static_cast<int64_t>(site.x) * shape.stride - shape.padding();
    const int64_t corner = source.offset(site.image, y, x);
    if (y >= 0 && x >= 0 && y + reach < source.h && x + reach < source.w) {
      for (int tap = 0; tap < taps; tap++) {
        rows[tap * height + m] = source.base + (corner + deltas[tap]);
      }
      continue;
    }
    for (int tap = 0; tap < taps; tap++) {
      const int64_t tap_y = y + tap / shape.kernel * shape.dilation;
      const int64_t tap_x = x + tap % shape.kernel * shape.dilation;
      const bool inside = tap_y >= 0 && tap_y < source.h && tap_x >= 0 && tap_x < source.w;
      rows[tap * height + m] = inside ? source.base + (corner + deltas[tap]) : zeros;
    }
  }
}

template void tell(const std::vector<Listener>&, const Kernels<float>&, const Rows<const float>&,
                   const Site*, int, bool);
template void tell(const std::vector<Listener>&, const Kernels<bfloat16>&,
                   const Rows<const bfloat16>&, const Site*, int, bool);
template struct Gemm<float>;
template struct Gemm<bfloat16>;

}  // namespace las
