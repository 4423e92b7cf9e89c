#include "block.h"

#include <cmath>
#include <cstring>

#include "team.h"

namespace las {
namespace {

constexpr size_t kBandBytes = 4 << 20;

// Reading a pixel for the masker alone costs as much as this many output channels of a 1×1
// convolution of it: 40 GB/s against 114 G multiply-accumulates/s on two cores of an EPYC.
constexpr float kMaskerChannels = 11.4f;

double to_double(float value) { return value; }

double to_double(bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

struct Workspace {
  Plan plan;
  Buffer<char> hidden, values, zeros;
  Buffer<Opinion> opinions;
};

// One execution of a block. Its threads walk through `work` together.
template <class T>
class Execution {
 public:
  Execution(const Block<T>& block, const Call<T>& call, Workspace& space);

  void run() {
    run_on_threads(call_.threads, [this] { work(); });
    finish();
  }

 private:
  using Bands = std::vector<Band>;

  void work();
  void opine(Team::Member& member, const Bands& bands, size_t index);
  void run_first(Team::Member& member, const Bands& bands, size_t index);
  void run_rest(Team::Member& member, const Bands& bands, size_t index);
  void decide(const Band& band, int first_image);
  int prepare_first(const Bands& bands, size_t index);
  int prepare_rest(const Bands& bands, size_t index);
  int prepare_last();
  void keep_identity(int job);
  void finish();

  Gemm<T> gemm(const PackedConv<T>& conv, const Sites& sites) const {
    Gemm<T> gemm;
    gemm.conv = &conv;
    gemm.kernels = &block_.kernels;
    gemm.zeros = zeros_;
    gemm.sites = sites.buffer.data();
    gemm.count = sites.count;
    return gemm;
  }

  const Block<T>& block_;
  const Call<T>& call_;
  const Geometry geometry_;
  const std::vector<Bands> groups_;
  const bool fused_;  // first convolution dense, together with the masker if there is one
  Team team_;
  Plan& plan_;
  Opinion* opinions_;
  T* values_;
  const T* zeros_;
  Rows<const T> x_;
  Rows<T> hidden_, out_;
  Gemm<T> first_, middle_, last_, shortcut_[2];
  int identity_jobs_ = 0, shortcut_jobs_[2] = {0, 0};
};

template <class T>
bool is_fused(const Block<T>& block) {
  const ConvShape& first = block.convs[0].shape();
  if (!block.masker) return true;
  return first.kernel == 1 && first.stride == 1 && block.dilated_rate > block.fuse_above;
}

int count_phases(const std::vector<std::vector<Band>>& groups) {
  size_t phases = 0;
  for (const auto& bands : groups) phases += 4 * (bands.size() + 2);
  return static_cast<int>(phases);
}

template <class T>
Execution<T>::Execution(const Block<T>& block, const Call<T>& call, Workspace& space)
    : block_(block),
      call_(call),
      geometry_(block.geometry(call.n, call.h, call.w)),
      groups_(make_bands(geometry_, sizeof(T) * block.convs[0].shape().in_channels,
                         block.band_bytes)),
      fused_(is_fused(block)),
      team_(count_phases(groups_)),
      plan_(space.plan) {
  const Geometry& g = geometry_;
  const ConvShape &first = g.first, &last = block.last().shape();
  size_t images = 1, pixels = 0;
  for (const Bands& bands : groups_) {
    for (const Band& band : bands) {
      images = std::max<size_t>(images, band.images);
      const size_t rows = static_cast<size_t>(band.patch_rows) * g.granularity * band.images;
      pixels = std::max(pixels, rows * g.out_w);
    }
  }
  plan_.begin(g);
  const int widest = std::max({first.in_channels, g.second.in_channels, last.in_channels, 64});
  void* zeros = space.zeros.reserve(widest * sizeof(T));
  std::memset(zeros, 0, widest * sizeof(T));
  zeros_ = static_cast<T*>(zeros);
  const size_t hidden = images * g.hidden_h * g.hidden_w * first.out_channels;
  hidden_ = {reinterpret_cast<T*>(space.hidden.reserve(hidden * sizeof(T))), first.out_channels,
             g.hidden_h, g.hidden_w};
  values_ = reinterpret_cast<T*>(space.values.reserve(pixels * last.in_channels * sizeof(T)));
  opinions_ = space.opinions.reserve(images * g.h * g.w);
  x_ = {call.x, first.in_channels, g.h, g.w};
  out_ = {call.out, last.out_channels, g.out_h, g.out_w};
}

template <class T>
void Execution<T>::work() {
  Team::Member member(team_);
  // The first convolution needs the decisions of the band after it; the others its pixels.
  const size_t lag = fused_ ? 0 : 1;
  for (const Bands& bands : groups_) {
    for (size_t step = 0; step < bands.size() + lag + 1; step++) {
      if (!fused_ && step < bands.size()) opine(member, bands, step);
      if (step >= lag && step - lag < bands.size()) run_first(member, bands, step - lag);
      if (step >= lag + 1) run_rest(member, bands, step - lag - 1);
    }
  }
}

// The masker's opinion of every pixel of a band.
template <class T>
void Execution<T>::opine(Team::Member& member, const Bands& bands, size_t index) {
  const Band& band = bands[index];
  const Geometry& g = geometry_;
  const int first_y = band.patch_row * g.window;
  const int rows = std::min(g.h, (band.patch_row + band.patch_rows) * g.window) - first_y;
  member.phase([&] { return rows * band.images; },
               [&](int job) {
                 const int image = band.image + job / rows, y = first_y + job % rows;
                 const T* row = x_.base + x_.offset(image, y, 0);
                 Opinion* out = opinions_ + (int64_t(image - bands[0].image) * g.h + y) * g.w;
                 const float* weights = block_.masker->rounded.data();
                 for (int x = 0; x < g.w; x++, row += x_.channels) {
                   out[x] = block_.kernels.opine(row, weights, x_.channels);
                 }
               });
}

template <class T>
void Execution<T>::decide(const Band& band, int first_image) {
  if (call_.decided || !block_.masker) {
    return plan_.decide(band, call_.decided);
  }
  const Masker& masker = *block_.masker;
  const auto exact = [&](int image, int y, int x) {
    const T* row = x_.base + x_.offset(image, y, x);
    double sum = 0;
    for (int c = 0; c < x_.channels; c++) sum += to_double(row[c]) * masker.weights[c];
    return sum;
  };
  plan_.decide(band, {opinions_, first_image, masker.bias, masker.tolerance, exact});
}

template <class T>
int Execution<T>::prepare_first(const Bands& bands, size_t index) {
  if (!fused_) {
    if (index == 0) decide(bands[0], bands[0].image);
    if (index + 1 < bands.size()) decide(bands[index + 1], bands[0].image);
  }
  plan_.list_needed(bands[index], fused_);
  first_ = gemm(block_.convs[0], plan_.needed);
  first_.source = x_;
  first_.out = hidden_;
  first_.out.first_image = bands[0].image;
  if (fused_ && block_.masker) {
    first_.source.base += x_.offset(bands[0].image, 0, 0);
    first_.source.first_image = bands[0].image;
    first_.masker = block_.masker->rounded.data();
    first_.opinions = opinions_;
  }
  return first_.prepare();
}

template <class T>
void Execution<T>::run_first(Team::Member& member, const Bands& bands, size_t index) {
  member.phase([&] { return prepare_first(bands, index); }, [&](int job) { first_.job(job); });
}

// The identity of all pixels and, in a bottleneck, the middle convolution of the active ones.
template <class T>
int Execution<T>::prepare_rest(const Bands& bands, size_t index) {
  if (fused_) decide(bands[index], bands[0].image);
  plan_.list_active(bands[index], call_.identity != Identity::in_place);
  hidden_.first_image = bands[0].image;
  const Rows<const T> hidden{hidden_.base, hidden_.channels, hidden_.h, hidden_.w,
                             hidden_.first_image};
  const Rows<T> values{values_, block_.last().shape().in_channels, 0, 0, 0, true};
  int jobs = 0;
  last_ = gemm(block_.last(), plan_.active);
  last_.source = hidden;
  if (block_.convs.size() == 3) {
    middle_ = gemm(block_.convs[1], plan_.active);
    middle_.source = hidden;
    middle_.out = values;
    last_.source = {values.base, values.channels, 0, 0, 0, true};
    jobs = middle_.prepare();
  }
  identity_jobs_ = (plan_.inactive.count + 63) / 64;
  if (call_.identity == Identity::convolved) {
    identity_jobs_ = 0;
    const Sites* sites[2] = {&plan_.active, &plan_.inactive};
    for (int i = 0; i < 2; i++) {
      shortcut_[i] = gemm(*block_.shortcut, *sites[i]);
      shortcut_[i].source = x_;
      shortcut_[i].out = out_;
      shortcut_[i].relu = i == 1;
      shortcut_jobs_[i] = shortcut_[i].prepare();
    }
  }
  return jobs + identity_jobs_ + shortcut_jobs_[0] + shortcut_jobs_[1];
}

template <class T>
int Execution<T>::prepare_last() {
  last_.out = out_;
  last_.residual = call_.identity == Identity::copied ? call_.x : call_.out;
  return last_.prepare();
}

template <class T>
void Execution<T>::run_rest(Team::Member& member, const Bands& bands, size_t index) {
  member.phase([&] { return prepare_rest(bands, index); },
               [&](int job) {
                 for (int i = 0; i < 2; i++) {
                   if (job < shortcut_jobs_[i]) return shortcut_[i].job(job);
                   job -= shortcut_jobs_[i];
                 }
                 if (job < identity_jobs_) return keep_identity(job);
                 middle_.job(job - identity_jobs_);
               });
  member.phase([&] { return prepare_last(); }, [&](int job) { last_.job(job); });
}

// Skipped pixels carry relu(identity).
template <class T>
void Execution<T>::keep_identity(int job) {
  const T* from = call_.identity == Identity::copied ? call_.x : call_.out;
  const int last = std::min(plan_.inactive.count, (job + 1) * 64);
  for (int i = job * 64; i < last; i++) {
    T* row = out_.at(plan_.inactive.buffer.data()[i], i);
    block_.kernels.relu(from + (row - out_.base), row, out_.channels);
  }
}

template <class T>
void Execution<T>::finish() {
  if (call_.mask) plan_.copy_mask(call_.mask);
  if (block_.masker) block_.dilated_rate = static_cast<float>(plan_.dilated_rate());
}

}  // namespace

// A sum of n products has a relative error of at most n units of 2^-24, weights one more; doubled to
// be safe from the rounding of `size` itself.
Masker::Masker(std::vector<double> w, double b) : weights(std::move(w)), bias(b) {
  double largest = 0;
  for (double weight : weights) {
    rounded.push_back(static_cast<float>(weight));
    largest = std::max(largest, std::abs(weight));
  }
  tolerance = (weights.size() + 1) * std::ldexp(largest, -23);
}

template <class T>
Block<T>::Block(std::vector<PackedConv<T>> convs, std::unique_ptr<PackedConv<T>> shortcut,
                std::unique_ptr<Masker> masker, int granularity, const Kernels<T>& kernels)
    : convs(std::move(convs)),
      shortcut(std::move(shortcut)),
      masker(std::move(masker)),
      granularity(granularity),
      kernels(kernels),
      fuse_above(1 - kMaskerChannels / this->convs[0].shape().out_channels),
      band_bytes(std::max(kBandBytes, 2 * this->convs[1].bytes())) {}

template <class T>
Geometry Block<T>::geometry(int n, int h, int w) const {
  return {convs[0].shape(), convs[1].shape(), granularity, n, h, w};
}

template <class T>
void Block<T>::run(const Call<T>& call) const {
  // Kept between calls: memory that is given back is paid for again, page by page.
  static thread_local Workspace space;
  if (call.n > 0) Execution<T>(*this, call, space).run();
}

template class Block<float>;
template class Block<bfloat16>;

}  // namespace las
