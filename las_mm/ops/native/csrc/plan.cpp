#include "plan.h"

#include <cmath>
#include <cstring>

namespace las {

Geometry::Geometry(const ConvShape& first, const ConvShape& second, int granularity, int n, int h,
                   int w)
    : n(n),
      h(h),
      w(w),
      hidden_h(first.out_size(h)),
      hidden_w(first.out_size(w)),
      out_h(second.out_size(hidden_h)),
      out_w(second.out_size(hidden_w)),
      grid_h((out_h + granularity - 1) / granularity),
      grid_w((out_w + granularity - 1) / granularity),
      granularity(std::min(granularity, std::max(out_h, out_w))),
      window(this->granularity * first.stride * second.stride),
      first(first),
      second(second) {}

std::vector<std::vector<Band>> make_bands(const Geometry& g, size_t pixel_bytes, size_t band_bytes,
                                          bool in_pairs) {
  std::vector<std::vector<Band>> groups;
  const size_t row_bytes = pixel_bytes * g.w * g.window, image_bytes = pixel_bytes * g.w * g.h;
  if (2 * image_bytes <= 3 * band_bytes) {
    const int together = static_cast<int>(std::max<size_t>(1, band_bytes / image_bytes));
    for (int image = 0; image < g.n; image += together) {
      groups.push_back({{image, std::min(together, g.n - image), 0, g.grid_h}});
    }
    return groups;
  }
  // A band must hold what the convolutions of its neighbours reach into.
  const int reach = std::max(g.first.padding(), g.second.padding());
  const int least = (reach + g.granularity - 1) / g.granularity;
  int rows = std::max<int>({1, least, static_cast<int>(band_bytes / row_bytes)});
  if (in_pairs && g.granularity % 2 != 0) rows += rows % 2;
  for (int image = 0; image < g.n; image++) {
    groups.emplace_back();
    for (int row = 0; row < g.grid_h;) {
      // A rest that is too small to stand alone joins the last band.
      const int left = g.grid_h - row, take = left < rows + std::max(least, rows / 2) ? left : rows;
      groups.back().push_back({image, 1, row, take});
      row += take;
    }
  }
  return groups;
}

void Plan::begin(const Geometry& geometry) {
  geometry_ = &geometry;
  const size_t patch_rows = static_cast<size_t>(geometry.n) * geometry.grid_h;
  on_ = on_buffer_.reserve(patch_rows * geometry.grid_w);
  margins_ = margin_buffer_.reserve(patch_rows * geometry.grid_w);
  spread_ = spread_buffer_.reserve(patch_rows * geometry.hidden_w);
  row_buffer_.reserve(2 * (std::max(geometry.hidden_w, geometry.out_w) + 1));
}

void Plan::decide(int image, int patch_row, const Opinions& opinions) {
  const Geometry& g = *geometry_;
  uint8_t* patches = on(image, patch_row);
  Margin* margins = margins_ + (patches - on_);
  std::fill_n(margins, g.grid_w, Margin{0, 0});
  const int first = patch_row * g.window, last = std::min(g.h, first + g.window);
  for (int y = first; y < last; y++) {
    const Opinion* pixel =
        opinions.of_pixels + (image * int64_t(g.h) + y) * g.w;
    for (int x = 0, patch = 0; x < g.w; patch++) {
      Margin margin = margins[patch];
      for (const int end = std::min(g.w, x + g.window); x < end; x++, pixel++) {
        margin.sum += pixel->margin + opinions.bias;
        margin.size += pixel->size;
      }
      margins[patch] = margin;
    }
  }
  for (int patch = 0; patch < g.grid_w; patch++) {
    const double sum = margins[patch].sum;
    const bool sure = std::abs(sum) > opinions.tolerance * margins[patch].size;
    patches[patch] = sure ? sum > 0 : is_kept(opinions, image, patch_row, patch);
  }
  spread_row(image, patch_row);
}

// The same in double precision.
bool Plan::is_kept(const Opinions& opinions, int image, int patch_row, int patch) const {
  const Geometry& g = *geometry_;
  const int last_y = std::min(g.h, (patch_row + 1) * g.window);
  const int last_x = std::min(g.w, (patch + 1) * g.window);
  double margin = 0;
  for (int y = patch_row * g.window; y < last_y; y++) {
    for (int x = patch * g.window; x < last_x; x++) {
      margin += opinions.exact(image, y, x) + opinions.bias;
    }
  }
  return margin >= 0;
}

void Plan::decide(int image, int patch_row, const float* mask) {
  uint8_t* patches = on(image, patch_row);
  if (mask) mask += patches - on_;
  for (int patch = 0; patch < geometry_->grid_w; patch++) {
    patches[patch] = !mask || mask[patch] != 0;
  }
  spread_row(image, patch_row);
}

uint8_t* Plan::on(int image, int patch_row) const {
  return on_ + (static_cast<size_t>(image) * geometry_->grid_h + patch_row) * geometry_->grid_w;
}

uint8_t* Plan::spread(int image, int patch_row) const {
  const size_t row = static_cast<size_t>(image) * geometry_->grid_h + patch_row;
  return spread_ + row * geometry_->hidden_w;
}

// Columns of the hidden feature which the second convolution reads for the active patches of a row.
void Plan::spread_row(int image, int patch_row) {
  const Geometry& g = *geometry_;
  const uint8_t* patches = on(image, patch_row);
  uint8_t* columns = spread(image, patch_row);
  std::memset(columns, 0, g.hidden_w);
  for (int patch = 0; patch < g.grid_w; patch++) {
    if (!patches[patch]) continue;
    const int last = std::min(g.out_w, (patch + 1) * g.granularity);
    for (int tap = 0; tap < g.second.kernel; tap++) {
      const int shift = tap * g.second.dilation - g.second.padding();
      for (int x = patch * g.granularity; x < last; x++) {
        const int column = x * g.second.stride + shift;
        if (column >= 0 && column < g.hidden_w) columns[column] = 1;
      }
    }
  }
}

// The hidden feature's row y: which columns are read. Valid until the next call.
const uint8_t* Plan::needed_row(int image, int y) const {
  const Geometry& g = *geometry_;
  uint8_t* columns = row_buffer_.data();
  std::memset(columns, 0, g.hidden_w);
  int last_row = -1;
  for (int tap = g.second.kernel - 1; tap >= 0; tap--) {
    const int strided = y + g.second.padding() - tap * g.second.dilation;
    if (strided < 0 || strided % g.second.stride) continue;
    const int out_y = strided / g.second.stride, row = out_y / g.granularity;
    if (out_y >= g.out_h || row == last_row) continue;
    const uint8_t* reads = spread(image, row);
    for (int x = 0; x < g.hidden_w; x++) columns[x] |= reads[x];
    last_row = row;
  }
  return columns;
}

void Plan::list_needed(const Band& band, bool all) {
  const Geometry& g = *geometry_;
  const int scale = g.granularity * g.second.stride, end = band.patch_row + band.patch_rows;
  const int first = band.patch_row * scale, last = std::min(g.hidden_h, end * scale);
  needed.clear(static_cast<size_t>(band.images) * (last - first) * g.hidden_w);
  if (all) std::memset(row_buffer_.data(), 1, g.hidden_w);
  for (int image = band.image; image < band.image + band.images; image++) {
    for (int y = first; y < last; y++) {
      const uint8_t* columns = all ? row_buffer_.data() : needed_row(image, y);
      needed.add_row(columns, true, g.hidden_w, image, y);
    }
  }
}

void Plan::list_active(const Band& band, bool with_inactive) {
  const Geometry& g = *geometry_;
  const Extent rows = clear_lists(band, with_inactive);
  uint8_t* pixels = row_buffer_.data();
  for (int image = band.image; image < band.image + band.images; image++) {
    for (int y = rows.first; y < rows.last; y++) {
      if (y == rows.first || y % g.granularity == 0) active_row(image, y, pixels);
      active.add_row(pixels, true, g.out_w, image, y);
      if (with_inactive) inactive.add_row(pixels, false, g.out_w, image, y);
    }
  }
}

void Plan::list_quads(const Band& band, bool with_inactive) {
  const Geometry& g = *geometry_;
  const Extent rows = clear_lists(band, with_inactive);
  const size_t in_row = (g.out_w + 1) / 2, in_column = (rows.last - rows.first + 1) / 2;
  quads.reserve(band.images * in_row * in_column + 1);
  singles_.reserve(band.images * in_row * in_column);
  quad_count = single_count = 0;
  uint8_t *upper = row_buffer_.data(), *lower = upper + g.out_w + 1;
  for (int image = band.image; image < band.image + band.images; image++) {
    for (int y = rows.first; y < rows.last; y += 2) {
      active_row(image, y, upper);
      std::memset(lower, 0, g.out_w + 1);
      if (y + 1 < rows.last) active_row(image, y + 1, lower);
      if (with_inactive) {
        inactive.add_row(upper, false, g.out_w, image, y);
        if (y + 1 < rows.last) inactive.add_row(lower, false, g.out_w, image, y + 1);
      }
      add_quads(image, y, upper, lower);
    }
  }
  append_singles();
}

// The band's rows; room for its pixels.
Plan::Extent Plan::clear_lists(const Band& band, bool with_inactive) {
  const Geometry& g = *geometry_;
  const int first = band.patch_row * g.granularity;
  const int last = std::min(g.out_h, (band.patch_row + band.patch_rows) * g.granularity);
  const size_t most = static_cast<size_t>(band.images) * (last - first) * g.out_w;
  active.clear(most);
  inactive.clear(with_inactive ? most : 0);
  return {first, last};
}

// Which pixels of an output row are active, and a zero behind them.
void Plan::active_row(int image, int y, uint8_t* pixels) const {
  const Geometry& g = *geometry_;
  const uint8_t* patches = on(image, y / g.granularity);
  pixels[g.out_w] = 0;
  if (g.granularity == 1) {
    std::memcpy(pixels, patches, g.out_w);
    return;
  }
  for (int x = 0, patch = 0; x < g.out_w; x += g.granularity, patch++) {
    std::memset(pixels + x, patches[patch], std::min(g.granularity, g.out_w - x));
  }
}

// The quads of two rows.
void Plan::add_quads(int image, int y, const uint8_t* upper, const uint8_t* lower) {
  Quad *quad = quads.data() + quad_count, *single = singles_.data() + single_count;
  Site *first = active.buffer.data(), *site = first + active.count;
  for (int x = 0; x < geometry_->out_w; x += 2) {
    const int pixels[4] = {upper[x], upper[x + 1], lower[x], lower[x + 1]};
    const int number = pixels[0] + pixels[1] + pixels[2] + pixels[3];
    if (number == 0) continue;
    const int bits = pixels[0] | pixels[1] << 1 | pixels[2] << 2 | pixels[3] << 3;
    (number == 1 ? *single++ : *quad++) = {image, static_cast<uint16_t>(y),
                                           static_cast<uint16_t>(x), static_cast<uint8_t>(bits),
                                           static_cast<int>(site - first)};
    if (number == 1) continue;
    for (int i = 0; i < 4; i++) {
      if (!pixels[i]) continue;
      *site++ = {image, static_cast<uint16_t>(y + i / 2), static_cast<uint16_t>(x + i % 2)};
    }
  }
  quad_count = static_cast<int>(quad - quads.data());
  single_count = static_cast<int>(single - singles_.data());
  active.count = static_cast<int>(site - first);
}

void Plan::append_singles() {
  Quad* quad = quads.data() + quad_count;
  Site* site = active.buffer.data() + active.count;
  for (int i = 0; i < single_count; i++, quad++, site++) {
    *quad = singles_.data()[i];
    quad->first = active.count++;
    *site = {quad->image, static_cast<uint16_t>(quad->y + (quad->active >= 4)),
             static_cast<uint16_t>(quad->x + (quad->active == 2 || quad->active == 8))};
  }
  *quad = {0, 0, 0, 0, active.count};
  quad_count += single_count;
}

size_t Plan::count_needed() const {
  const Geometry& g = *geometry_;
  size_t count = 0;
  for (int image = 0; image < g.n; image++) {
    for (int y = 0; y < g.hidden_h; y++) {
      const uint8_t* columns = needed_row(image, y);
      int in_row = 0;
      for (int x = 0; x < g.hidden_w; x++) in_row += columns[x];
      count += in_row;
    }
  }
  return count;
}

void Plan::copy_mask(float* mask) const {
  const size_t patches = static_cast<size_t>(geometry_->n) * geometry_->grid_h * geometry_->grid_w;
  std::copy_n(on_, patches, mask);
}

}  // namespace las
