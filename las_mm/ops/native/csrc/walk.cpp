#include "walk.h"

#include <algorithm>

namespace las {
namespace {

// With more weights than this, threads go through the pixels panel by panel, else panels by pixels.
constexpr size_t kCachedWeights = 512 << 10;

// Multiplications of a vector by which a pixel keeps a job busy: narrow panels go several at a time.
constexpr int kJobSteps = 1024;

}  // namespace

template <class T>
void Walk<T>::begin(const PackedConv<T>& conv, const PackedConv<T>* next,
                    const Kernels<T>& kernels, int count, size_t entry_bytes, int threads,
                    int chunk) {
  conv_ = &conv;
  next_ = next;
  count_ = count;
  chunk_ = chunk;
  threads_ = threads;
  depth_step_ = kernels.depth_step;
  const int rest = count % chunk;
  const bool joins = count > chunk && rest <= kMostExtra;
  chunks_ = count / chunk + (rest > 0 && !joins);
  panels_outside_ = conv.bytes() > kCachedWeights;
  const int steps = conv.taps() * conv.shape().depth() * conv.panels()[0].vectors;
  const bool several = conv.is_narrow() && !panels_outside_;
  job_panels_ = several ? std::min(panels(), std::max(1, kJobSteps / steps)) : 1;
  // Whichever is larger, features or weights, is split among the threads; the other one all read.
  parts_ = count * entry_bytes > conv.bytes() ? std::min(threads, std::max(1, chunks_)) : 1;
}

template <class T>
typename Walk<T>::Job Walk<T>::job(int index) const {
  if (!panels_outside_) {
    const int first = index % panel_jobs() * job_panels_, chunk = index / panel_jobs();
    return {first, std::min(first + job_panels_, panels()), chunk, chunk};
  }
  int part = parts_ - 1;
  while (index < part_start(part) * panels()) part--;
  const int chunks = part_start(part + 1) - part_start(part);
  const int in_panels = index - part_start(part) * panels();
  const int panel = in_panels / chunks, in_part = in_panels % chunks;
  return {panel, panel + 1, part_start(part) + in_part, in_part};
}

// First chunk of a part.
template <class T>
int Walk<T>::part_start(int part) const {
  return static_cast<int>(static_cast<int64_t>(chunks_) * part / parts_);
}

template <class T>
const char* Walk<T>::ahead(const Job& job) const {
  if (!panels_outside_) return nullptr;
  const auto owner = [&](int panel) { return parts_ == 1 ? panel * threads_ / panels() : 0; };
  const PackedConv<T>* from = conv_;
  int wanted = job.panel + 1;
  if (wanted == panels() || owner(wanted) != owner(job.panel)) {
    if (!next_) return nullptr;
    from = next_;
    wanted = static_cast<int>(from->panels().size()) * owner(job.panel) / threads_;
  }
  const size_t fetched =
      static_cast<size_t>(job.in_part) * conv_->taps() * (conv_->shape().depth() / depth_step_) * 64;
  const Panel& target = from->panels()[wanted];
  const char* weights = reinterpret_cast<const char*>(from->weights(target));
  return fetched < from->bytes(target) ? weights + fetched : nullptr;
}

template class Walk<float>;
template class Walk<bfloat16>;
template class Walk<uint8_t>;

}  // namespace las
