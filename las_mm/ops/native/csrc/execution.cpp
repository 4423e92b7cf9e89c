#include "execution.h"

#include <cstring>

namespace las {
namespace {

template <class T>
bool is_fused(const Block<T>& block, const Call<T>& call) {
  const ConvShape& first = block.convs[0].shape();
  if (!block.masker) return !call.decided;
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
      groups_(make_bands(geometry_, block.pixel_bytes(), block.band_bytes, block.is_by_quads())),
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
  first_.act = block_.acts[0];
  first_.source = x_;
  first_.out = hidden_;
  first_.out.first_image = bands[0].image;
  if (fused_ && !listeners_.empty()) first_.listeners = &listeners_;
  return first_.prepare(threads_);
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
template class Execution<uint8_t>;

}  // namespace las
