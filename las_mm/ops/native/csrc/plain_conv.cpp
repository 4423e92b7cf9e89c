#include "plain_conv.h"

#include <cstring>

#include "team.h"

namespace las {

template <class T>
void PlainConv<T>::run(const T* x, int n, int h, int w, T* out, int threads) const {
  static thread_local Buffer<Site> kept_sites;
  static thread_local Buffer<T> kept_zeros;
  const ConvShape& shape = conv_.shape();
  const int out_h = shape.out_size(h), out_w = shape.out_size(w), count = n * out_h * out_w;
  Site* sites = kept_sites.reserve(count);
  for (int image = 0, i = 0; image < n; image++) {
    for (int y = 0; y < out_h; y++) {
      for (int x = 0; x < out_w; x++, i++) {
        sites[i] = {image, static_cast<uint16_t>(y), static_cast<uint16_t>(x)};
      }
    }
  }
  T* zeros = kept_zeros.reserve(shape.in_channels);
  std::memset(static_cast<void*>(zeros), 0, shape.in_channels * sizeof(T));
  Gemm<T> gemm;
  gemm.conv = &conv_;
  gemm.kernels = &kernels_;
  gemm.source = {x, shape.in_channels, h, w};
  gemm.out = {out, shape.out_channels, out_h, out_w};
  gemm.act = act_;
  gemm.zeros = zeros;
  gemm.sites = sites;
  gemm.count = count;
  Team team(1, threads);
  run_on_threads(threads, [&](int thread) {
    typename Team::Member(team, thread)
        .phase([&] { return gemm.prepare(threads); }, [&](int job) { gemm.job(job); });
  });
}

template class PlainConv<float>;
template class PlainConv<bfloat16>;

}  // namespace las
