#include "gemm.h"

#include <algorithm>

#include "edges.h"

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
  multiply(job.panel, job.last_panel, first, last, walk_.ahead(job));
}

template <class T>
void Gemm<T>::range(int first, int last) const {
  const int panels = static_cast<int>(conv->panels().size()), step = conv->is_narrow() ? panels : 1;
  for (int panel = 0; panel < panels; panel += step) {
    multiply(panel, panel + step, first, last, nullptr);
  }
}

// Some pixels by some panels, of one width if they are more than one.
template <class T>
void Gemm<T>::multiply(int first_panel, int last_panel, int first, int last,
                       const char* ahead) const {
  const ConvShape& shape = conv->shape();
  const Panel* panels = conv->panels().data();
  const bool depthwise = conv->is_depthwise();
  const int vectors = panels[first_panel].vectors;
  const int full = depthwise ? kChunk : kernels->height[vectors];
  int64_t deltas[kMaxKernel * kMaxKernel];
  for (int tap = 0; tap < shape.taps(); tap++) {
    const int64_t dy = tap / shape.kernel, dx = tap % shape.kernel;
    deltas[tap] = (dy * source.w + dx) * shape.dilation * source.channels;
  }
  const T* rows[kMaxKernel * kMaxKernel * kMaxHeight];
  for (int i = first, height; i < last; i += height) {
    const int left = last - i, extra = left - full;
    const bool half = !depthwise && left <= full / 2;
    const bool tall = !depthwise && vectors == 2 && kernels->multiply_tall[0] && extra > 0 && extra <= kMostExtra;
    height = half ? full / 2 : tall ? left : depthwise ? std::min(left, full) : full;
    point_at_taps(rows, height, i, deltas);
    // In another job or not: its thread is likely to be this one.
    fetch_tile(i + height, height, panels[first_panel], panels[last_panel - 1]);
    const auto multiply = depthwise ? kernels->depthwise
                          : half ? kernels->multiply_half[vectors]
                          : tall ? kernels->multiply_tall[extra - 1]
                                 : kernels->multiply[vectors];
    for (int panel = first_panel; panel < last_panel; panel++) {
      multiply_tile(multiply, panels[panel], rows, i, std::min(i + height, last), height, ahead);
    }
  }
}

// Pixels from `first` on, `height` of them with those that are cut from `last` on.
template <class T>
void Gemm<T>::multiply_tile(void (*multiply)(const Tile<T>&), const Panel& panel,
                            const T* const* rows, int first, int last, int height,
                            const char* ahead) const {
  const T* residuals[kMaxHeight];
  T* outs[kMaxHeight];
  T unused[kMaxVectors * 16];  // where the rows of a cut tile go
  const Edges<T>* edges = conv->edges();
  bool added = residual;
  for (int m = 0; m < height; m++) {
    const bool cut = first + m >= last;
    T* row = cut ? unused : out.at(sites[first + m], first + m) + panel.column;
    outs[m] = row;
    residuals[m] = !residual ? nullptr : cut ? zeros : residual + (row - out.base);
    if (residual) fetch(residuals[m], panel.columns * sizeof(T));
    if (!edges) continue;
    const T* missing = cut ? nullptr : edges->row(sites[first + m].y, sites[first + m].x);
    residuals[m] = missing ? missing + panel.column : zeros;
    added |= missing != nullptr;
  }
  multiply({rows,
            conv->shape().taps(),
            conv->shape().depth(),
            panel.first_channel,
            conv->weights(panel),
            conv->bias(panel),
            added ? residuals : nullptr,
            outs,
            ahead ? ahead : reinterpret_cast<const char*>(conv->weights(panel)),
            panel.columns,
            act,
            height,
            conv->scales(panel),
            rescale});
}

// Fetch what a tile will read for some panels and the tile before it has not read: under a kernel
// the last `stride` rows and columns. A wide kernel's rows come in time by themselves.
template <class T>
void Gemm<T>::fetch_tile(int first, int height, const Panel& from, const Panel& to) const {
  const ConvShape& shape = conv->shape();
  if (source.listed || (shape.taps() > 1 && !conv->is_narrow())) return;
  const int channels = to.first_channel + shape.depth() - from.first_channel;
  const int bytes = std::min<int>(channels * sizeof(T), 1024);
  for (int m = first; m < std::min(first + height, count); m++) {
    for (int dy = std::max(0, shape.kernel - shape.stride); dy < shape.kernel; dy++) {
      const int64_t y = int64_t{sites[m].y} * shape.stride + dy * shape.dilation - shape.padding();
      for (int dx = std::max(0, shape.kernel - shape.stride); dx < shape.kernel; dx++) {
        const int64_t x = int64_t{sites[m].x} * shape.stride + dx * shape.dilation - shape.padding();
        if (y < 0 || x < 0 || y >= source.h || x >= source.w) continue;
        fetch(source.base + source.offset(sites[m].image, y, x) + from.first_channel, bytes);
      }
    }
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
    int tap = 0;
    for (int64_t tap_y = y; tap_y <= y + reach; tap_y += shape.dilation) {
      for (int64_t tap_x = x; tap_x <= x + reach; tap_x += shape.dilation, tap++) {
        const bool inside = tap_y >= 0 && tap_y < source.h && tap_x >= 0 && tap_x < source.w;
        rows[tap * height + m] = inside ? source.base + (corner + deltas[tap]) : zeros;
      }
    }
  }
}

template void tell(const std::vector<Listener>&, const Kernels<float>&, const Rows<const float>&,
                   const Site*, int, bool);
template void tell(const std::vector<Listener>&, const Kernels<bfloat16>&,
                   const Rows<const bfloat16>&, const Site*, int, bool);
template void tell(const std::vector<Listener>&, const Kernels<uint8_t>&,
                   const Rows<const uint8_t>&, const Site*, int, bool);
template struct Gemm<float>;
template struct Gemm<bfloat16>;
template struct Gemm<uint8_t>;

}  // namespace las
