// A convolution at a list of pixels: rows gathered by pointer, a matrix product, rows scattered.
#pragma once

#include <vector>

#include "walk.h"

namespace las {

// A pixel: image, row, column. Small, as lists of them are made by one thread while others wait.
struct Site {
  int image;
  uint16_t y, x;
};

// Edges of a feature must be smaller than this.
constexpr int kMostPixels = 1 << 16;

// Feature rows of `channels` elements, one per pixel of images from `first_image` on, each h by w;
// or, where `listed`, one per entry of the list of sites from `first_entry` on.
template <class T>
struct Rows {
  T* base = nullptr;
  int channels = 0, h = 0, w = 0, first_image = 0;
  bool listed = false;
  int first_entry = 0;

  int64_t offset(int image, int64_t y, int64_t x) const {
    return (((image - first_image) * static_cast<int64_t>(h) + y) * w + x) * channels;
  }
  int64_t offset(const Site& site) const { return offset(site.image, site.y, site.x); }
  T* at(const Site& site, int index) const {
    return base + (listed ? static_cast<int64_t>(index - first_entry) * channels : offset(site));
  }
};

// Tell maskers of some pixels. `fresh`: the rows are not in the cache yet.
template <class T>
void tell(const std::vector<Listener>& listeners, const Kernels<T>& kernels,
          const Rows<const T>& rows, const Site* sites, int count, bool fresh);

// out[site] = act(conv(source)[site] [+ residual[site]]) for each site of the convolution's output.
template <class T>
struct Gemm {
  const PackedConv<T>* conv = nullptr;
  const PackedConv<T>* next = nullptr;  // the convolution that comes after this one; null for none
  const Kernels<T>* kernels = nullptr;
  Rows<const T> source;
  Rows<T> out;
  const T* residual = nullptr;  // laid out as `out`; null for none
  Activation act;
  const T* zeros = nullptr;  // a row for what lies outside the image
  // Maskers to tell of the pixels of `source`; if there are some, the sites must be all pixels.
  const std::vector<Listener>* listeners = nullptr;
  Rescale rescale;  // of bytes alone
  const Site* sites = nullptr;
  int count = 0;

  int prepare(int threads);  // returns the number of independent jobs
  void job(int index) const;
  // Some of the pixels, all output channels; there are chunks() of them.
  void chunk(int index) const { range(walk_.first(index), walk_.last(index)); }
  int chunks() const { return walk_.chunks(); }
  int chunk_start(int index) const { return walk_.first(index); }
  int chunk_end(int index) const { return walk_.last(index); }
  // All output channels of the pixels from first to last - 1.
  void range(int first, int last) const;

 private:
  void multiply(int first_panel, int last_panel, int first, int last, const char* ahead) const;
  void multiply_tile(void (*multiply)(const Tile<T>&), const Panel& panel, const T* const* rows,
                     int first, int last, int height, const char* ahead) const;
  void fetch_tile(int first, int height, const Panel& from, const Panel& to) const;
  void point_at_taps(const T** rows, int height, int first, const int64_t* deltas) const;

  Walk<T> walk_;
};

}  // namespace las
