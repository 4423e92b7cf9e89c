// In which order the jobs of a convolution are done.
#pragma once

#include "packing.h"

namespace las {

// Pixels in a job: a multiple of every micro-kernel's height (6, 8, 12). The last job may have a few
// more or less.
constexpr int kChunk = 12;

// The list's entries in chunks, the weights in panels; a job is a chunk by a panel, or by several
// narrow ones.
template <class T>
class Walk {
 public:
  struct Job {
    int panel, last_panel, chunk;  // from panel to last_panel - 1
    int in_part;  // number of the chunk among those that its thread multiplies by the panel
  };

  // next: the convolution that comes after this one, or null. entry_bytes: of an entry's features.
  void begin(const PackedConv<T>& conv, const PackedConv<T>* next, const Kernels<T>& kernels,
             int count, size_t entry_bytes, int threads, int chunk = kChunk);

  int chunks() const { return chunks_; }
  int jobs() const { return chunks_ * panel_jobs(); }
  Job job(int index) const;
  int first(int chunk) const { return chunk * chunk_; }
  int last(int chunk) const { return chunk + 1 < chunks_ ? (chunk + 1) * chunk_ : count_; }

  // Where to fetch from while a job is done: the chunks of a panel together fetch the panel that
  // their thread needs next, so that it need not come all at once when its turn comes. Null for
  // nowhere.
  const char* ahead(const Job& job) const;

 private:
  int panels() const { return static_cast<int>(conv_->panels().size()); }
  int panel_jobs() const { return (panels() + job_panels_ - 1) / job_panels_; }
  int part_start(int part) const;

  const PackedConv<T>* conv_ = nullptr;
  const PackedConv<T>* next_ = nullptr;
  int count_ = 0, chunk_ = kChunk, chunks_ = 0, threads_ = 1, depth_step_ = 1;
  int job_panels_ = 1;           // panels of a job
  int parts_ = 1;                // of the chunks, each for one thread
  bool panels_outside_ = false;  // a part goes through its chunks panel by panel
};

}  // namespace las
