#include "stem.h"

#include <algorithm>
#include <cstring>

#include "team.h"

namespace las {
namespace {

// Bands for each thread: few, as neighbours compute the rows between them twice.
constexpr int kBands = 3;

// Weights as of a 1×1 convolution whose channels are the kernel's rows, each filled up to `depth`.
std::vector<float> flatten(const ConvShape& shape, const float* weight, int depth) {
  const int k = shape.kernel, taps = shape.taps();
  std::vector<float> flat(static_cast<size_t>(shape.out_channels) * k * depth);
  for (int out = 0; out < shape.out_channels; out++) {
    for (int c = 0; c < shape.in_channels; c++, weight += taps) {
      for (int tap = 0; tap < taps; tap++) {
        const int column = tap % k * shape.in_channels + c;
        flat[static_cast<size_t>(out * k + tap / k) * depth + column] = weight[tap];
      }
    }
  }
  return flat;
}

}  // namespace

// Some rows of one image's output, from first to last - 1.
template <class T>
class Stem<T>::Band {
 public:
  Band(const Stem& stem, const Images<T>& images, T* out, int image, int first, int last);

  void run() {
    for (int row = first_; row < last_; row++) pool_row(row);
  }

 private:
  void read_row(int y);
  void convolve_row(int y);
  void pool_row(int row);

  T* input_row(int y) { return inputs_ + (y - first_input_) % shape_.kernel * input_size_; }
  T* conv_row(int y) { return convolved_ + y % pool_.kernel * conv_size_; }

  const Stem& stem_;
  const ConvShape& shape_;
  const PoolShape& pool_;
  const Images<T>& images_;
  const int image_, first_, last_;
  const int conv_h_, conv_w_, out_w_;
  T* const out_;
  int next_conv_, first_input_, next_input_;  // rows
  size_t input_size_, conv_size_;             // elements in one
  T *inputs_, *convolved_, *highest_;         // rings of rows, and the maximum of some
};

template <class T>
Stem<T>::Band::Band(const Stem& stem, const Images<T>& images, T* out, int image, int first,
                    int last)
    : stem_(stem), shape_(stem.shape_), pool_(stem.pool_), images_(images), image_(image),
      first_(first), last_(last), conv_h_(shape_.out_size(images.h)),
      conv_w_(shape_.out_size(images.w)), out_w_(stem.out_size(images.w)),
      out_(out + static_cast<size_t>(image) * stem.out_size(images.h) * out_w_ * shape_.out_channels),
      next_conv_(std::max(0, first * pool_.stride - pool_.padding)),
      first_input_(next_conv_ * shape_.stride - shape_.padding()), next_input_(first_input_) {
  // The last tile may reach beyond the row.
  const size_t wide = conv_w_ + kMaxHeight;
  conv_size_ = wide * shape_.out_channels;
  input_size_ = wide * shape_.stride * shape_.in_channels + stem.depth_;
  const size_t count = input_size_ * shape_.kernel;
  static thread_local Buffer<T> inputs, convolved, highest;
  inputs_ = inputs.reserve(count);
  convolved_ = convolved.reserve(conv_size_ * pool_.kernel);
  highest_ = highest.reserve(conv_size_);
  std::memset(static_cast<void*>(inputs_), 0, count * sizeof(T));
}

// A row of the images, channels last, between zeros.
template <class T>
void Stem<T>::Band::read_row(int y) {
  const int channels = shape_.in_channels;
  T* row = input_row(y) + shape_.padding() * channels;
  if (y < 0 || y >= images_.h) {
    std::memset(static_cast<void*>(row), 0, sizeof(T) * images_.w * channels);
    return;
  }
  const T* from = images_.base + image_ * images_.image_step + y * images_.row_step;
  for (int c = 0; c < channels; c++) {
    const T* plane = from + c * images_.channel_step;
    for (int64_t x = 0; x < images_.w; x++) row[x * channels + c] = plane[x * images_.pixel_step];
  }
}

template <class T>
void Stem<T>::Band::convolve_row(int y) {
  const int top = y * shape_.stride - shape_.padding(), step = shape_.stride * shape_.in_channels;
  for (; next_input_ < top + shape_.kernel; next_input_++) read_row(next_input_);
  for (const Panel& panel : stem_.conv_.panels()) {
    const int height = stem_.kernels_.height[panel.vectors];
    const T* weights = stem_.conv_.weights(panel);
    for (int x = 0; x < conv_w_; x += height) {
      const T* rows[kMaxKernel * kMaxHeight];
      T* outs[kMaxHeight];
      for (int m = 0; m < height; m++) {
        for (int tap = 0; tap < shape_.kernel; tap++) {
          rows[tap * height + m] = input_row(top + tap) + (x + m) * step;
        }
        outs[m] = conv_row(y) + static_cast<size_t>(x + m) * shape_.out_channels + panel.column;
      }
      stem_.kernels_.multiply[panel.vectors](
          {rows, shape_.kernel, stem_.depth_, 0, weights, stem_.conv_.bias(panel), nullptr, outs,
           reinterpret_cast<const char*>(weights), panel.columns,
           {true, stem_.limit_}});
    }
  }
}

// First over rows, then over columns.
template <class T>
void Stem<T>::Band::pool_row(int row) {
  const int channels = shape_.out_channels, top = row * pool_.stride - pool_.padding;
  const T* rows[kMaxKernel];
  int count = 0;
  for (int y = std::max(0, top); y < std::min(top + pool_.kernel, conv_h_); y++) {
    for (; next_conv_ <= y; next_conv_++) convolve_row(next_conv_);
    rows[count++] = conv_row(y);
  }
  T* out = out_ + static_cast<size_t>(row) * out_w_ * channels;
  T* highest = pool_.kernel == 1 ? out : highest_;
  stem_.kernels_.max_rows(rows, count, highest, conv_w_ * channels);
  if (pool_.kernel == 1) return;
  for (int i = 0; i < out_w_; i++, out += channels) {
    const int left = i * pool_.stride - pool_.padding;
    count = 0;
    for (int x = std::max(0, left); x < std::min(left + pool_.kernel, conv_w_); x++) {
      rows[count++] = highest + static_cast<size_t>(x) * channels;
    }
    stem_.kernels_.max_rows(rows, count, out, channels);
  }
}

template <class T>
Stem<T>::Stem(const ConvShape& shape, const float* weight, const float* bias, const PoolShape& pool,
              float limit, const Kernels<T>& kernels)
    : shape_(shape), pool_(pool), limit_(limit), kernels_(kernels),
      depth_((shape.kernel * shape.in_channels + kernels.depth_step - 1) / kernels.depth_step *
             kernels.depth_step),
      conv_({shape.kernel * depth_, shape.out_channels, 1, 1, 1, 1},
            flatten(shape, weight, depth_).data(), bias, kernels) {}

template <class T>
void Stem<T>::run(const Images<T>& images, T* out, int threads) const {
  const int out_h = out_size(images.h);
  const int wanted = std::max(1, threads == 1 ? 1 : kBands * threads / std::max(1, images.n));
  const int rows = (out_h + wanted - 1) / wanted, bands = (out_h + rows - 1) / rows;
  Team team(1, threads);
  run_on_threads(threads, [&](int index) {
    typename Team::Member(team, index).phase(
        [&] { return images.n * bands; },
        [&](int job) {
          const int first = job % bands * rows;
          Band(*this, images, out, job / bands, first, std::min(out_h, first + rows)).run();
        });
  });
}

template class Stem<float>;
template class Stem<bfloat16>;

}  // namespace las
