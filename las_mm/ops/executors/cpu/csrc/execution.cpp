#include "execution.h"

#include <cstring>

namespace las {
namespace {

// Pixels in a job that only keeps the identity.
constexpr int kIdentityChunk = 64;

// Reading weights takes as long as this many pixels' products with them.
constexpr int kWeightPixels = 26;

template <class T>
bool is_fused(const Block<T>& block, const Call<T>& call) {
  const ConvShape& first = block.convs[0].shape();
  if (!block.masker) return true;
  if (call.told) return false;
  return first.kernel == 1 && first.stride == 1 && block.dilated_rate > block.fuse_above;
}

int count_phases(const std::vector<std::vector<Band>>& groups, int extra) {
  size_t phases = 0;
  for (const auto& bands : groups) phases += (5 + extra) * (bands.size() + 2);
  return static_cast<int>(phases);
}

}  // namespace

template <class T>
Execution<T>::Execution(const Block<T>& block, const Call<T>& call, Workspace& space, int threads)
    : block_(block),
      call_(call),
      geometry_(block.geometry(call.n, call.h, call.w)),
      groups_(make_bands(geometry_, sizeof(T) * block.convs[0].shape().in_channels,
                         block.band_bytes, block.is_by_quads())),
      fused_(is_fused(block, call)),
      together_(block.is_together()),
      by_quads_(block.is_by_quads()),
      threads_(threads),
      team_(count_phases(groups_, block.gate ? 1 + Gating<T>::kPhases : 0), threads),
      plan_(space.plan),
      features_(space.features) {
  const Geometry& g = geometry_;
  const ConvShape &first = g.first, &last = block.last().shape();
  size_t images = 1, pixels = 0;
  for (const Bands& bands : groups_) {
    size_t rows = 0;
    for (const Band& band : bands) {
      images = std::max<size_t>(images, band.images);
      if (!block.gate) rows = 0;  // only a gate waits for a whole group
      rows += static_cast<size_t>(band.patch_rows) * g.granularity * band.images;
      pixels = std::max(pixels, rows * g.out_w);
    }
  }
  plan_.begin(g);
  const int widest = std::max({first.in_channels, g.second.in_channels, last.in_channels, 64});
  T* zeros = reserve<T>(space.zeros, widest);
  std::memset(static_cast<void*>(zeros), 0, widest * sizeof(T));
  zeros_ = zeros;
  const size_t hidden = images * g.hidden_h * g.hidden_w * first.out_channels;
  hidden_ = {reserve<T>(space.hidden, hidden), first.out_channels, g.hidden_h, g.hidden_w};
  values_ = reserve<T>(space.values, pixels * last.in_channels);
  if (block.gate) gating_.emplace(*block.gate, block.kernels, space.gating, threads);
  if (block.masker && !call.told) {
    if (call.identity == Identity::in_place) listeners_ = call.followers;
    listeners_.insert(listeners_.begin(), {block.masker->rounded.data(), call.opinions});
  }
  x_ = {call.x, first.in_channels, g.h, g.w};
  out_ = {call.out, last.out_channels, g.out_h, g.out_w};
}

template <class T>
void Execution<T>::finish() {
  if (call_.mask) plan_.copy_mask(call_.mask);
  if (!block_.masker) return;
  const double pixels = static_cast<double>(call_.n) * geometry_.hidden_h * geometry_.hidden_w;
  const size_t needed = fused_ ? plan_.count_needed() : needed_;
  block_.dilated_rate = static_cast<float>(needed / pixels);
}

template <class T>
void Execution<T>::work(int thread) {
  Team::Member member(team_, thread);
  // The first convolution needs the decisions of the band after it; the others its pixels.
  const size_t lag = fused_ ? 0 : 1;
  for (const Bands& bands : groups_) {
    for (size_t step = 0; step < bands.size() + lag + 1; step++) {
      if (!fused_ && step < bands.size()) opine(member, bands, step);
      if (step >= lag && step - lag < bands.size()) run_first(member, bands, step - lag);
      if (step < lag + 1) continue;
      if (fused_) decide_all(member, bands, step - lag - 1);
      run_rest(member, bands, step - lag - 1);
    }
  }
}

// The decisions of a band whose pixels have opinions.
template <class T>
void Execution<T>::decide_all(Team::Member& member, const Bands& bands, size_t index) {
  const Band& band = bands[index];
  member.phase([&] { return band.images * band.patch_rows; },
               [&](int job) {
                 decide(band.image + job / band.patch_rows,
                        band.patch_row + job % band.patch_rows);
               });
}

// The masker alone: its opinion of every pixel of a band, unless the blocks before have told it,
// and the decisions that follow.
template <class T>
void Execution<T>::opine(Team::Member& member, const Bands& bands, size_t index) {
  const Band& band = bands[index];
  const Geometry& g = geometry_;
  const auto job = [&](int index) {
    const int image = band.image + index / band.patch_rows;
    const int patch_row = band.patch_row + index % band.patch_rows;
    tell_listeners(image, patch_row * g.window, std::min(g.h, (patch_row + 1) * g.window));
    decide(image, patch_row);
  };
  member.phase([&] { return band.images * band.patch_rows; }, job);
}

// Tell the maskers that want to know all of x of some of its rows.
template <class T>
void Execution<T>::tell_listeners(int image, int first_row, int last_row) const {
  if (listeners_.empty()) return;
  for (int y = first_row; y < last_row; y++) {
    for (int x = 0; x < x_.w; x += kChunk) {  // few enough to stay near for the second listener
      Site sites[kChunk];
      const int count = std::min(kChunk, x_.w - x);
      for (int i = 0; i < count; i++) {
        sites[i] = {image, static_cast<uint16_t>(y), static_cast<uint16_t>(x + i)};
      }
      tell(listeners_, block_.kernels, x_, sites, count, true);
    }
  }
}

template <class T>
void Execution<T>::decide(int image, int patch_row) {
  if (call_.decided || !block_.masker) return plan_.decide(image, patch_row, call_.decided);
  const Masker& masker = *block_.masker;
  const auto exact = [&](int image, int y, int x) {
    return masker.margin(x_.base + x_.offset(image, y, x));
  };
  plan_.decide(image, patch_row, {call_.opinions, masker.bias, masker.tolerance, exact});
}

template <class T>
void Execution<T>::run_first(Team::Member& member, const Bands& bands, size_t index) {
  const int next = next_rest(bands, index);
  const auto prepare = [&] {
    first_jobs_ = prepare_first(bands, index);
    return first_jobs_ + (next >= 0);
  };
  const auto job = [&](int job) {
    job < first_jobs_ ? first_.job(job) : prepare_rest(bands, next);
  };
  member.phase(prepare, job);
}

// The band whose lists of active pixels are made while others compute the first convolution of a
// band: the one before it, which comes next, or itself if it is alone; -1 for none.
template <class T>
int Execution<T>::next_rest(const Bands& bands, size_t index) const {
  if (fused_) return -1;
  return bands.size() == 1 ? 0 : static_cast<int>(index) - 1;
}

template <class T>
int Execution<T>::prepare_first(const Bands& bands, size_t index) {
  plan_.list_needed(bands[index], fused_);
  needed_ += plan_.needed.count;
  first_ = gemm(block_.convs[0], plan_.needed);
  first_.next = block_.convs.size() == 3 ? &block_.middle() : &block_.last();
  first_.source = x_;
  first_.out = hidden_;
  first_.out.first_image = bands[0].image;
  if (fused_ && !listeners_.empty()) first_.listeners = &listeners_;
  return first_.prepare(threads_);
}

// The identity of all pixels; the convolutions of the active ones.
template <class T>
void Execution<T>::run_rest(Team::Member& member, const Bands& bands, size_t index) {
  const auto prepare = [&] {
    const bool is_last = index + 1 == bands.size();
    if (fused_ || (is_last && bands.size() > 1)) prepare_rest(bands, index);
    const int others = together_ ? 0 : shortcut_jobs_[0];
    return quad_jobs_ + middle_jobs_ + others + shortcut_jobs_[1] + identity_jobs_;
  };
  member.phase(prepare, [&](int job) { run_rest_job(job); });
  if (together_) return;
  if (by_quads_) member.phase([&] { return winograd_.jobs(); }, [&](int i) { winograd_.job(i); });
  if (gating_) {
    if (index + 1 < bands.size()) return;
    if (index > 0) member.phase([&] { return prepare_gated(bands[0]); }, [](int) {});
    gating_->run(member, bands[0].image, bands[0].images, plan_.active, values_);
  }
  member.phase([&] { return last_jobs_; }, [&](int job) { last_.job(job); });
}

template <class T>
void Execution<T>::run_rest_job(int job) {
  if (job < quad_jobs_) {
    if (!together_) return winograd_.transform(job);
    winograd_.chunk(job);
    return run_range(winograd_.first_place(job), winograd_.last_place(job));
  }
  job -= quad_jobs_;
  if (job < middle_jobs_) {
    if (!together_) return middle_.job(job);
    middle_.chunk(job);
    const int first = first_direct_ + job * kChunk;
    return run_range(first, first_direct_ + middle_.chunk_end(job));
  }
  job -= middle_jobs_;
  if (!together_) {
    if (job < shortcut_jobs_[0]) return shortcut_[0].job(job);
    job -= shortcut_jobs_[0];
  }
  if (job >= shortcut_jobs_[1]) return keep_identity(job - shortcut_jobs_[1]);
  if (!together_) return shortcut_[1].job(job);
  shortcut_[1].chunk(job);
  tell_followers(plan_.inactive, job * kChunk, shortcut_[1].chunk_end(job));
}

template <class T>
void Execution<T>::prepare_rest(const Bands& bands, size_t index) {
  const Band& band = bands[index];
  const bool with_inactive = call_.identity != Identity::in_place;
  if (by_quads_) {
    plan_.list_quads(band, with_inactive);
  } else {
    plan_.list_active(band, with_inactive);
  }
  last_ = gemm(block_.last(), plan_.active);
  last_.source = {hidden_.base, hidden_.channels, hidden_.h, hidden_.w, bands[0].image};
  last_.next = call_.next;
  last_.out = out_;
  last_.residual = call_.identity == Identity::copied ? call_.x : call_.out;
  if (gating_) listed_ = index == 0 ? 0 : listed_ + middle_.count;
  if (block_.convs.size() == 3) prepare_middle();
  last_jobs_ = last_.prepare(threads_);
  identity_jobs_ = (plan_.inactive.count + kIdentityChunk - 1) / kIdentityChunk;
  if (call_.identity == Identity::convolved) prepare_shortcut();
}

// How many of the quads to compute by Winograd's algorithm: all; all but those of single pixels,
// for which the direct one takes fewer products; or none, as Winograd's has more weights to read.
template <class T>
int Execution<T>::count_winograd_quads() const {
  const int all = plan_.quad_count, singles = plan_.single_count, crowded = all - singles;
  if (!block_.direct) return all;
  const int costs[3] = {16 * (all + kWeightPixels),
                        16 * (crowded + kWeightPixels) + 9 * (singles + kWeightPixels),
                        9 * (plan_.active.count + kWeightPixels)};
  const int counts[3] = {all, crowded, 0};
  return counts[std::min_element(costs, costs + 3) - costs];
}

// The second of three convolutions: at quads, and at the pixels behind them in the list.
template <class T>
void Execution<T>::prepare_middle() {
  const int channels = block_.last().shape().in_channels;
  first_direct_ = 0;
  if (by_quads_) {
    const Quad* quads = plan_.quads.data();
    winograd_.conv = &block_.convs[1];
    winograd_.next = &block_.last();
    winograd_.kernels = &block_.kernels;
    winograd_.source = last_.source;
    winograd_.out = values_;
    winograd_.zeros = zeros_;
    winograd_.quads = quads;
    winograd_.count = count_winograd_quads();
    winograd_.prepare(threads_, together_);
    if (!together_) winograd_.features = reserve<T>(features_, winograd_.feature_count());
    quad_jobs_ = winograd_.chunks();
    first_direct_ = quads[winograd_.count].first;
  }
  middle_ = gemm(block_.middle(), plan_.active);
  middle_.sites += first_direct_;
  middle_.count -= first_direct_;
  middle_.next = quad_jobs_ > 0 ? &block_.convs[1] : &block_.last();
  middle_.source = last_.source;
  const int64_t place = first_direct_ + static_cast<int64_t>(listed_);
  middle_.out = {values_ + place * channels, channels, 0, 0, 0, true};
  const int jobs = middle_.prepare(threads_);
  middle_jobs_ = together_ ? middle_.chunks() : jobs;
  last_.source = {values_, channels, 0, 0, 0, true};
}

// The last convolution at all active pixels of an image, whose bands have been through the others.
template <class T>
int Execution<T>::prepare_gated(const Band& first_band) {
  plan_.list_active({first_band.image, 1, 0, geometry_.grid_h}, false);
  last_.sites = plan_.active.buffer.data();
  last_.count = plan_.active.count;
  last_jobs_ = last_.prepare(threads_);
  return 0;
}

// Dense; the ReLU comes at once where nothing is added.
template <class T>
void Execution<T>::prepare_shortcut() {
  const Sites* sites[2] = {&plan_.active, &plan_.inactive};
  for (int i = 0; i < 2; i++) {
    shortcut_[i] = gemm(*block_.shortcut, *sites[i]);
    shortcut_[i].source = x_;
    shortcut_[i].out = out_;
    shortcut_[i].relu = i == 1;
    const int jobs = shortcut_[i].prepare(threads_);
    shortcut_jobs_[i] = together_ ? shortcut_[i].chunks() : jobs;
  }
  identity_jobs_ = 0;
}

// The convolutions after the second one at some active pixels.
template <class T>
void Execution<T>::run_range(int first, int last) {
  if (call_.identity == Identity::convolved) shortcut_[0].range(first, last);
  last_.range(first, last);
  tell_followers(plan_.active, first, last);
}

// Skipped pixels carry relu(identity).
template <class T>
void Execution<T>::keep_identity(int job) {
  const T* from = call_.identity == Identity::copied ? call_.x : call_.out;
  const int last = std::min(plan_.inactive.count, (job + 1) * kIdentityChunk);
  for (int i = job * kIdentityChunk; i < last; i++) {
    T* row = out_.at(plan_.inactive.buffer.data()[i], i);
    block_.kernels.relu(from + (row - out_.base), row, out_.channels);
  }
  tell_followers(plan_.inactive, job * kIdentityChunk, last);
}

template <class T>
void Execution<T>::tell_followers(const Sites& sites, int first, int last) const {
  if (call_.followers.empty()) return;
  const Rows<const T> rows{out_.base, out_.channels, out_.h, out_.w};
  tell(call_.followers, block_.kernels, rows, sites.buffer.data() + first, last - first, false);
}

template <class T>
Gemm<T> Execution<T>::gemm(const PackedConv<T>& conv, const Sites& sites) const {
  Gemm<T> gemm;
  gemm.conv = &conv;
  gemm.kernels = &block_.kernels;
  gemm.zeros = zeros_;
  gemm.sites = sites.buffer.data();
  gemm.count = sites.count;
  return gemm;
}

template class Execution<float>;
template class Execution<bfloat16>;

}  // namespace las
