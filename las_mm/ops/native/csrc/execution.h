// One execution of a block: its phases, band by band.
#pragma once

#include <list>
#include <optional>

#include "block.h"
#include "team.h"

namespace las {

// Memory that executions use one after another.
struct Workspace {
  Plan plan;
  Buffer<char> hidden, values, zeros, features;
  GatingSpace gating;
  std::list<Buffer<Opinion>> opinions;  // of each masker of a chain
};

template <class T>
class Execution {
 public:
  Execution(const Block<T>& block, const Call<T>& call, Workspace& space, int threads);

  // What each thread does.
  void work(int thread);
  // Once all is done.
  void finish();

 private:
  using Bands = std::vector<Band>;

  void opine(Team::Member& member, const Bands& bands, size_t index);
  void decide_all(Team::Member& member, const Bands& bands, size_t index);
  void run_first(Team::Member& member, const Bands& bands, size_t index);
  void run_rest(Team::Member& member, const Bands& bands, size_t index);

  // Preparations and jobs of the phases.
  void decide(int image, int patch_row);
  void tell_listeners(int image, int first_row, int last_row) const;
  int next_rest(const Bands& bands, size_t index) const;
  int prepare_first(const Bands& bands, size_t index);
  Gemm<T> gemm(const PackedConv<T>& conv, const Sites& sites) const;

  // Those of run_rest, see execution_rest.cpp.
  void prepare_rest(const Bands& bands, size_t index);
  void prepare_middle();
  int count_winograd_quads() const;
  int prepare_gated(const Band& first_band);
  void prepare_shortcut();
  void run_rest_job(int job);
  void run_chunk(int chunk);
  void run_range(const Gemm<T>& end, int first, int last);
  void keep_identity(int job);
  void tell_followers(const Sites& sites, int first, int last) const;

  const Block<T>& block_;
  const Call<T>& call_;
  const Geometry geometry_;
  const std::vector<Bands> groups_;
  const bool fused_;     // first convolution dense, in one pass with the masker if there is one
  const bool together_;  // see Block::is_together
  const bool by_quads_;  // see Block::is_by_quads
  const int threads_;
  Team team_;
  Plan& plan_;
  Buffer<char>& features_;  // of Winograd's algorithm
  std::vector<Listener> listeners_;  // maskers to tell of all of x; none if they have been told
  std::optional<Gating<T>> gating_;
  T* values_;  // output of the second of three convolutions, listed
  const T* zeros_;
  Rows<const T> x_;
  Rows<T> hidden_, out_;
  Gemm<T> first_, middle_, last_;
  Winograd<T> winograd_;
  Gemm<T> shortcut_[2];  // at active and at inactive pixels
  int first_direct_ = 0;  // place in the list of the first pixel that is in no quad
  size_t listed_ = 0;     // values of the bands before, which wait for the gate
  size_t needed_ = 0;     // pixels of the first convolution so far
  int first_jobs_ = 0, quad_jobs_ = 0, middle_jobs_ = 0, last_jobs_ = 0, identity_jobs_ = 0;
  int shortcut_jobs_[2] = {0, 0};
};

}  // namespace las
