// What comes after a block's first convolution.
#include <algorithm>
#include <cstring>

#include "execution.h"

namespace las {
namespace {

// Pixels in a job that only keeps the identity.
constexpr int kIdentityChunk = 64;

// Reading weights takes as long as this many pixels' products with them.
constexpr int kWeightPixels = 26;

}  // namespace

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
    return run_range(last_, winograd_.first_place(job), winograd_.last_place(job));
  }
  job -= quad_jobs_;
  if (job < middle_jobs_) {
    if (!together_) return middle_.job(job);
    return run_chunk(job);
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
  last_.act = block_.acts.back();
  last_.next = call_.next;
  last_.out = out_;
  last_.residual = call_.identity == Identity::copied ? call_.x
                   : call_.identity == Identity::none ? nullptr
                                                      : call_.out;
  if (call_.identity == Identity::convolved) last_.rescale = block_.with_shortcut;
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
  middle_.act = block_.acts[1];
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
    shortcut_[i].act = block_.acts.back();
    if (i == 0) shortcut_[i].act.on = false;
    if (i == 0) shortcut_[i].rescale = block_.to_shortcut;
    const int jobs = shortcut_[i].prepare(threads_);
    shortcut_jobs_[i] = together_ ? shortcut_[i].chunks() : jobs;
  }
  identity_jobs_ = 0;
}

// A chunk through all convolutions after the first one; what is between two of them stays in memory of
// the thread's own, in its nearest cache.
template <class T>
void Execution<T>::run_chunk(int chunk) {
  static thread_local Buffer<T> kept;
  const int start = middle_.chunk_start(chunk), channels = last_.source.channels;
  T* values = kept.reserve(static_cast<size_t>(middle_.chunk_end(chunk) - start) * channels);
  Gemm<T> middle = middle_, last = last_;
  middle.out = {values, channels, 0, 0, 0, true, start};
  middle.chunk(chunk);
  last.source = {values, channels, 0, 0, 0, true, first_direct_ + start};
  run_range(last, first_direct_ + start, first_direct_ + middle_.chunk_end(chunk));
}

// The convolutions after the second one at some active pixels.
template <class T>
void Execution<T>::run_range(const Gemm<T>& end, int first, int last) {
  if (call_.identity == Identity::convolved) shortcut_[0].range(first, last);
  end.range(first, last);
  tell_followers(plan_.active, first, last);
}

// Skipped pixels carry relu(identity), or the identity itself where no activation follows the sum.
template <class T>
void Execution<T>::keep_identity(int job) {
  const T* from = call_.identity == Identity::copied ? call_.x : call_.out;
  const int last = std::min(plan_.inactive.count, (job + 1) * kIdentityChunk);
  for (int i = job * kIdentityChunk; i < last; i++) {
    T* row = out_.at(plan_.inactive.buffer.data()[i], i);
    const T* identity = from + (row - out_.base);
    if (block_.acts.back().on) {
      block_.kernels.relu(identity, row, out_.channels);
    } else if (identity != row) {
      std::memcpy(static_cast<void*>(row), identity, out_.channels * sizeof(T));
    }
  }
  tell_followers(plan_.inactive, job * kIdentityChunk, last);
}

template <class T>
void Execution<T>::tell_followers(const Sites& sites, int first, int last) const {
  if (call_.followers.empty()) return;
  const Rows<const T> rows{out_.base, out_.channels, out_.h, out_.w};
  tell(call_.followers, block_.kernels, rows, sites.buffer.data() + first, last - first, false);
}

template void Execution<float>::run_rest(Team::Member&, const Bands&, size_t);
template void Execution<float>::prepare_rest(const Bands&, size_t);
template void Execution<bfloat16>::run_rest(Team::Member&, const Bands&, size_t);
template void Execution<bfloat16>::prepare_rest(const Bands&, size_t);
template void Execution<uint8_t>::run_rest(Team::Member&, const Bands&, size_t);
template void Execution<uint8_t>::prepare_rest(const Bands&, size_t);

}  // namespace las
