// The micro-kernels of one instruction set. Each file that is compiled for one includes this text in
// its own namespace, beside an `Ops` class that says: element type T, vectors Vec of `lanes` floats,
// and how to load, multiply and store them. No header of the standard library may be included from
// here: its inline functions would be compiled for this instruction set, and the linker would share
// them with code for other CPUs.

// Fully unrolled, so that the accumulators become registers.
#if defined(__clang__)
#define LAS_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LAS_UNROLL _Pragma("GCC unroll 16")
#endif

// A value that is no number stays one, as in PyTorch.
template <class Ops>
inline typename Ops::Vec activate(typename Ops::Vec value, float limit) {
  using Vec = typename Ops::Vec;
  value = value < Vec{} ? Vec{} : value;
  const Vec limits = Vec{} + limit;
  return value > limits ? limits : value;
}

template <class Ops, int V>
__attribute__((always_inline)) inline void write_row(const Tile<typename Ops::T>& tile, int m,
                                                     const typename Ops::Vec* sum) {
  using T = typename Ops::T;
  using Vec = typename Ops::Vec;
  T* out = tile.out[m];
  const T* residual = tile.residual ? tile.residual[m] : nullptr;
  T last[V * Ops::lanes];  // a cut panel passes through here
  const bool cut = tile.columns < V * Ops::lanes;
  if (cut && residual) {
    __builtin_memset(last, 0, sizeof(last));
    __builtin_memcpy(last, residual, tile.columns * sizeof(T));
    residual = last;
  }
  LAS_UNROLL
  for (int v = 0; v < V; v++) {
    Vec value = sum[v];
    if (residual) value += Ops::load(residual + v * Ops::lanes);
    if (tile.act.on) value = activate<Ops>(value, tile.act.limit);
    Ops::store((cut ? last : out) + v * Ops::lanes, value);
  }
  if (cut) __builtin_memcpy(out, last, tile.columns * sizeof(T));
}

template <class Ops, int H, int V>
void multiply(const Tile<typename Ops::T>& tile) {
  using T = typename Ops::T;
  typename Ops::Vec sum[H][V];
  LAS_UNROLL
  for (int v = 0; v < V; v++) {
    const typename Ops::Vec bias = Ops::load_float(tile.bias + v * Ops::lanes);
    LAS_UNROLL
    for (int m = 0; m < H; m++) sum[m][v] = bias;
  }
  const T* weights = tile.weights;
  const char* ahead = tile.ahead;
  for (int tap = 0; tap < tile.taps; tap++) {
    const T* row[H];
    LAS_UNROLL
    for (int m = 0; m < H; m++) row[m] = tile.rows[tap * H + m] + tile.first_channel;
    for (long k = 0; k < tile.depth; k += Ops::step) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += 64;
      typename Ops::Weights w[V];
      LAS_UNROLL
      for (int v = 0; v < V; v++) w[v] = Ops::load_weights(weights + v * Ops::lanes * Ops::step);
      weights += V * Ops::lanes * Ops::step;
      LAS_UNROLL
      for (int m = 0; m < H; m++) {
        const typename Ops::Scalar scalar = Ops::scalar(row[m] + k);
        LAS_UNROLL
        for (int v = 0; v < V; v++) sum[m][v] = Ops::multiply_add(sum[m][v], scalar, w[v]);
      }
    }
  }
  LAS_UNROLL
  for (int m = 0; m < H; m++) write_row<Ops, V>(tile, m, sum[m]);
}

// One vector of channels at all pixels of a tile; the weights of usual kernels stay in registers.
template <class Ops, int kTaps>
inline void convolve_vector(const Tile<typename Ops::T>& tile, long channel, int columns,
                            const typename Ops::T* weights) {
  using T = typename Ops::T;
  using Vec = typename Ops::Vec;
  const Vec bias = Ops::load_float(tile.bias + channel);
  const bool cut = columns < Ops::lanes;
  Vec w[kTaps > 0 ? kTaps : 1];
  LAS_UNROLL
  for (int tap = 0; tap < kTaps; tap++) w[tap] = Ops::load(weights + tap * Ops::lanes);
  const int taps = kTaps > 0 ? kTaps : tile.taps;
  for (int m = 0; m < tile.height; m++) {
    Vec sum = bias;
    LAS_UNROLL
    for (int tap = 0; tap < taps; tap++) {
      const T* row = tile.rows[tap * tile.height + m] + tile.first_channel + channel;
      T some[Ops::lanes] = {};
      if (cut) __builtin_memcpy(some, row, columns * sizeof(T));
      const Vec weight = kTaps > 0 ? w[tap] : Ops::load(weights + tap * Ops::lanes);
      sum += Ops::load(cut ? some : row) * weight;
    }
    if (tile.act.on) sum = activate<Ops>(sum, tile.act.limit);
    if (!cut) {
      Ops::store(tile.out[m] + channel, sum);
    } else {
      T some[Ops::lanes];
      Ops::store(some, sum);
      __builtin_memcpy(tile.out[m] + channel, some, columns * sizeof(T));
    }
  }
}

template <class Ops>
void depthwise(const Tile<typename Ops::T>& tile) {
  const typename Ops::T* weights = tile.weights;
  for (long channel = 0; channel < tile.columns; channel += Ops::lanes) {
    const int columns = tile.columns - channel < Ops::lanes ? tile.columns - channel : Ops::lanes;
    if (tile.taps == 9 && columns == Ops::lanes) {
      convolve_vector<Ops, 9>(tile, channel, Ops::lanes, weights);
    } else {
      convolve_vector<Ops, 0>(tile, channel, columns, weights);
    }
    weights += tile.taps * Ops::lanes;
  }
}

#include "row_kernels.h"
