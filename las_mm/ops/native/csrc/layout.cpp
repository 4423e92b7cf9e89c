#include "layout.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "conversion.h"
#include "features.h"

namespace las {
namespace {

constexpr int64_t kPixels = 64;     // of a tile
constexpr int64_t kLine = 64;       // bytes of a pixel in a tile
constexpr int64_t kChannels = 256;  // that a thread takes at a time

// A value as it is, or widened.
template <class T>
void give(T value, T& out) {
  out = value;
}
void give(bfloat16 value, float& out) { out = to_float(value); }

// A tile passes through memory of its own: pixels of many channels lie so far apart that a cache
// holds few of them.
template <class T, class To>
void transpose_tile(const T* from, int64_t channels, int64_t width, To* to, int64_t pixels,
                    int64_t height) {
  constexpr int64_t line = kLine / sizeof(T);
  T tile[kPixels][line];
  for (int64_t p = 0; p < height; p++) {
    std::memcpy(static_cast<void*>(tile[p]), from + p * channels, width * sizeof(T));
  }
  for (int64_t c = 0; c < width; c++) {
    for (int64_t p = 0; p < height; p++) give(tile[p][c], to[c * pixels + p]);
  }
}

template <class T, class To>
void transpose_all(const at::Tensor& x, at::Tensor& out) {
  constexpr int64_t line = kLine / sizeof(T);
  const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3), size = channels * pixels;
  const int64_t rows = (pixels + kPixels - 1) / kPixels;
  const int64_t columns = (channels + kChannels - 1) / kChannels;
  const T* from = static_cast<const T*>(x.const_data_ptr());
  To* to = static_cast<To*>(out.mutable_data_ptr());
  at::parallel_for(0, x.size(0) * rows * columns, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t image = i / (rows * columns) * size;
      const int64_t p = i / columns % rows * kPixels, first = i % columns * kChannels;
      const int64_t last = std::min(first + kChannels, channels);
      for (int64_t c = first; c < last; c += line) {
        transpose_tile(from + image + p * channels + c, channels, std::min(line, last - c),
                       to + image + c * pixels + p, pixels, std::min(kPixels, pixels - p));
      }
    }
  });
}

}  // namespace

at::Tensor to_contiguous(const at::Tensor& x, bool widen) {
  TORCH_CHECK_VALUE(x.dim() == 4 && x.device().is_cpu() &&
                        x.is_contiguous(at::MemoryFormat::ChannelsLast),
                    "x: must be on the CPU, of four dimensions and in channels-last memory");
  TORCH_CHECK_VALUE(!widen || x.scalar_type() == at::kBFloat16, "x: must be in bfloat16");
  const auto options = widen ? x.options().dtype(at::kFloat) : x.options();
  at::Tensor out = empty_features(x.sizes(), options, at::MemoryFormat::Contiguous);
  if (widen) {
    transpose_all<bfloat16, float>(x, out);
    return out;
  }
  switch (x.element_size()) {
    case 2:
      transpose_all<uint16_t, uint16_t>(x, out);
      break;
    case 4:
      transpose_all<uint32_t, uint32_t>(x, out);
      break;
    default:
      TORCH_CHECK_VALUE(false, "x: must have two or four bytes a value");
  }
  return out;
}

}  // namespace las
