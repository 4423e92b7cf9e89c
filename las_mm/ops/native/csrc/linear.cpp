#include "linear.h"

#include "team.h"

namespace las {

template <class T>
void PackedLinear<T>::run(const T* x, int x_stride, int rows, T* out, int out_stride, bool adds,
                          int threads) const {
  static thread_local Buffer<Site> kept_sites;
  static const T zeros[kMaxVectors * 16] = {};  // added to rows of a cut tile that nobody reads
  if (rows == 0) return;
  Site* sites = kept_sites.reserve(rows);
  for (int i = 0; i < rows; i++) sites[i] = {i, 0, 0};  // as images of one pixel
  Gemm<T> gemm;
  gemm.conv = &conv_;
  gemm.kernels = &kernels_;
  gemm.source = {x, x_stride, 1, 1};
  gemm.out = {out, out_stride, 1, 1};
  gemm.residual = adds ? out : nullptr;
  gemm.act.on = false;
  gemm.zeros = zeros;
  gemm.sites = sites;
  gemm.count = rows;
  Team team(1, threads);
  run_on_threads(threads, [&](int thread) {
    typename Team::Member(team, thread)
        .phase([&] { return gemm.prepare(threads); }, [&](int job) { gemm.job(job); });
  });
}

template class PackedLinear<float>;
template class PackedLinear<bfloat16>;

}  // namespace las
