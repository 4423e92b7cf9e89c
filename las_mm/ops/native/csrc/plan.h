// Which pixels each convolution of a block computes.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "winograd.h"

namespace las {

// Sizes of everything in one execution of a block.
struct Geometry {
  Geometry(const ConvShape& first, const ConvShape& second, int granularity, int n, int h, int w);

  int n, h, w;            // input
  int hidden_h, hidden_w;  // output of the first convolution
  int out_h, out_w;       // output of the block
  int grid_h, grid_w;     // patches
  int granularity;        // edge of a patch in output pixels
  int window;             // edge of a patch in input pixels
  ConvShape first, second;
};

// A part of the batch that is computed at a time, so that its features stay in the cache: some
// whole images, or some rows of patches of one image.
struct Band {
  int image, images;        // first image, number of images
  int patch_row, patch_rows;
};

// Groups of bands; a group is either one band of whole images or all bands of one image. in_pairs:
// bands begin at even rows of the output, so that quads do not depend on them.
std::vector<std::vector<Band>> make_bands(const Geometry& geometry, size_t pixel_bytes,
                                          size_t band_bytes, bool in_pairs);

// What a masker thinks of its input.
struct Opinions {
  const Opinion* of_pixels;  // (n, h, w)
  double bias;       // of a pixel
  double tolerance;  // bound of a margin's rounding error, per unit of size
  // weights · row in double precision: the word on patches whose margin is within the error, so
  // that a rounding never decides one.
  std::function<double(int image, int y, int x)> exact;
};

// A list of sites, refilled for every band.
struct Sites {
  Buffer<Site> buffer;
  int count = 0;

  void clear(size_t capacity) {
    buffer.reserve(capacity + 1);  // one more, written to and not counted
    count = 0;
  }
  // Add the pixels of a row whose entry, 0 or 1, is `wanted`. Most neighbours agree, so eight are
  // looked at together; where they differ there are no branches, as masks are hard to predict.
  void add_row(const uint8_t* row, bool wanted, int width, int image, int y) {
    constexpr uint64_t kOnes = 0x0101010101010101;
    const uint64_t all = wanted ? kOnes : 0, none = kOnes - all;
    Site* end = buffer.data() + count;
    for (int x = 0, step; x < width; x += step) {
      step = std::min(8, width - x);
      uint64_t eight = 2;  // neither
      if (step == 8) std::memcpy(&eight, row + x, 8);
      if (eight == none) continue;
      for (int i = x; i < x + step; i++) {
        *end = {image, static_cast<uint16_t>(y), static_cast<uint16_t>(i)};
        end += eight == all || row[i] == wanted;
      }
    }
    count = static_cast<int>(end - buffer.data());
  }
};

// The decisions for a batch and the lists of pixels that follow from them.
class Plan {
 public:
  // Start a new batch; everything is still undecided.
  void begin(const Geometry& geometry);

  // Decide a row of patches by the sign of their margins (Eq. 3). Rows may be decided in parallel.
  void decide(int image, int patch_row, const Opinions& opinions);
  // Decide it as told: mask (n, grid_h, grid_w), kept where not 0; null keeps all.
  void decide(int image, int patch_row, const float* mask);

  // List the band's pixels of the first convolution's output: those that the second one will read
  // (the neighbouring bands must be decided), or all.
  void list_needed(const Band& band, bool all);
  // List the band's output pixels, active and, if asked for, inactive.
  void list_active(const Band& band, bool with_inactive);
  // The same, active ones by quads, those with a single active pixel behind the others. One more quad
  // marks the end.
  void list_quads(const Band& band, bool with_inactive);

  // Pixels of the first convolution's output that the second one reads; all must be decided.
  size_t count_needed() const;

  void copy_mask(float* mask) const;  // (n, grid_h, grid_w)

  Sites needed, active, inactive;
  Buffer<Quad> quads;
  int quad_count = 0, single_count = 0;  // of all, of those with a single active pixel

 private:
  bool is_kept(const Opinions& opinions, int image, int patch_row, int patch) const;
  uint8_t* on(int image, int patch_row) const;
  uint8_t* spread(int image, int patch_row) const;
  void spread_row(int image, int patch_row);
  const uint8_t* needed_row(int image, int y) const;
  void active_row(int image, int y, uint8_t* pixels) const;
  void add_quads(int image, int y, const uint8_t* upper, const uint8_t* lower);
  void append_singles();
  struct Extent {
    int first, last;
  };
  Extent clear_lists(const Band& band, bool with_inactive);

  struct Margin {
    double sum, size;
  };

  const Geometry* geometry_ = nullptr;
  Buffer<uint8_t> on_buffer_, spread_buffer_, row_buffer_;
  Buffer<Quad> singles_;
  Buffer<Margin> margin_buffer_;
  Margin* margins_ = nullptr;  // (n, grid_h, grid_w)
  uint8_t* on_ = nullptr;      // (n, grid_h, grid_w)
  uint8_t* spread_ = nullptr;  // (n, grid_h, hidden_w): columns that a row of patches reads
};

}  // namespace las
