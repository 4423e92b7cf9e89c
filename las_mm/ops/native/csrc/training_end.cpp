#include <ATen/ops/empty_like.h>

#include <algorithm>

#include "training_common.h"

namespace las {
namespace {

// A job takes a few neighbouring channels of all images: it goes over them more than once, and finds
// them in the cache again, if they are not too many; too few would not be one stream of memory.
constexpr int64_t kFewest = 8, kMost = 64, kElements = 1 << 17;

// Rows of pixels are padded to this, the most lanes of a vector.
constexpr int64_t kPadding = 16;

struct Size {
  int64_t n, channels, pixels;

  explicit Size(const at::Tensor& x)
      : n(x.size(0)), channels(x.size(1)), pixels(x.size(2) * x.size(3)) {}
  double count() const { return static_cast<double>(n * pixels); }
  int64_t group() const {
    return std::clamp(kElements / std::max<int64_t>(1, n * pixels), kFewest, kMost);
  }
  int64_t groups() const { return (channels + group() - 1) / group(); }
  int64_t padded() const { return (pixels + kPadding - 1) / kPadding * kPadding; }
};

// Neighbouring channels, the last one exclusive.
struct Group {
  const Size& size;
  int64_t first, last;

  Group(const Size& size, int64_t index)
      : size(size),
        first(index * size.group()),
        last(std::min(size.channels, first + size.group())) {}

  // `visit(n, c, i, start)` for channel c, the group's i-th, of image n, which starts at `start`.
  template <class Visit>
  void each_plane(const Visit& visit) const {
    for (int64_t n = 0; n < size.n; n++) {
      for (int64_t c = first; c < last; c++) {
        visit(n, c, c - first, (n * size.channels + c) * size.pixels);
      }
    }
  }
};

// A batch norm's parameters, and what it subtracts and multiplies by.
struct Norm {
  const float *weight, *bias, *mean, *invstd;
  Line line(int64_t c) const { return {mean[c], invstd[c] * weight[c], bias[c]}; }
};

// How the gradient of x depends on x, as end_input takes it, by the channels of a group.
struct Slopes {
  float slope[kMost], offset[kMost];
};

// Writes the gradients of the norm's parameters, too. `sums` are those of end_gradients.
Slopes finish(const Group& group, const Norm& norm, const double (*sums)[2], bool training,
              float* of_weight, float* of_bias) {
  Slopes result = {};
  for (int64_t c = group.first, i = 0; c < group.last; c++, i++) {
    const double invstd = norm.invstd[c], share = norm.line(c).scale / group.size.count();
    of_weight[c] = static_cast<float>(sums[i][1] * invstd);
    of_bias[c] = static_cast<float>(sums[i][0]);
    if (!training) continue;  // mean and variance do not depend on x
    result.slope[i] = static_cast<float>(share * invstd * invstd * sums[i][1]);
    result.offset[i] = static_cast<float>(share * sums[i][0]);
  }
  return result;
}

// The mask's gradient, of each group's padded share of it: (groups, N, padded) -> (N, pixels).
void add_groups(const std::vector<float>& shares, const Size& size, float* of_pixels) {
  const int64_t padded = size.padded(), groups = size.groups();
  run_jobs(size.n, [&](int64_t n) {
    for (int64_t i = 0; i < size.pixels; i++) {
      double sum = 0;
      for (int64_t g = 0; g < groups; g++) sum += shares[(g * size.n + n) * padded + i];
      of_pixels[n * size.pixels + i] = static_cast<float>(sum);
    }
  });
}

}  // namespace

std::tuple<std::optional<at::Tensor>, at::Tensor, at::Tensor, at::Tensor, at::Tensor> end_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
    const at::Tensor& pixels, const at::Tensor& out, const at::Tensor& mean,
    const at::Tensor& invstd, bool training, bool needs_x, const std::string& isa) {
  const TrainingKernels& kernels = training_kernels(isa);
  const Size size(x);
  for (const at::Tensor& each : {grad, x, out}) check(each, x.sizes(), "feature");
  at::Tensor of_identity = at::empty_like(x), of_pixels = at::empty_like(pixels);
  at::Tensor of_weight = at::empty_like(weight), of_bias = at::empty_like(weight);
  std::optional<at::Tensor> of_x;
  if (needs_x) of_x = at::empty_like(x);
  float *of_side = data(of_identity), *of_scale = data(of_weight), *of_shift = data(of_bias);
  float* to = needs_x ? data(*of_x) : nullptr;
  const float *from = data(x), *mask = data(pixels), *above = data(grad), *result = data(out);
  const Norm norm{data(weight), data(bias), data(mean), data(invstd)};
  std::vector<float> shares(size.groups() * size.n * size.padded());
  run_jobs(size.groups(), [&](int64_t job) {
    const Group group(size, job);
    double sums[kMost][2] = {};
    group.each_plane([&](int64_t n, int64_t c, int64_t i, int64_t start) {
      kernels.end_gradients(above + start, result + start, from + start, mask + n * size.pixels,
                            size.pixels, norm.line(c), of_side + start,
                            &shares[(job * size.n + n) * size.padded()], sums[i]);
    });
    const Slopes by_x = finish(group, norm, sums, training, of_scale, of_shift);
    if (!needs_x) return;
    group.each_plane([&](int64_t n, int64_t c, int64_t i, int64_t start) {
      kernels.end_input(of_side + start, from + start, mask + n * size.pixels, size.pixels,
                        norm.line(c), by_x.slope[i], by_x.offset[i], to + start);
    });
  });
  add_groups(shares, size, data(of_pixels));
  return {of_x, of_weight, of_bias, of_pixels, of_identity};
}

}  // namespace las
