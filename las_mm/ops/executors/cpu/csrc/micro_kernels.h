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
    if (tile.relu) value = value < Vec{} ? Vec{} : value;
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
  for (int tap = 0; tap < tile.taps; tap++) {
    const T* row[H];
    LAS_UNROLL
    for (int m = 0; m < H; m++) row[m] = tile.rows[tap * H + m] + tile.first_channel;
    for (long k = 0; k < tile.depth; k += Ops::step) {
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

// How far ahead of its use a row is fetched, in elements: rows pass by faster than the hardware
// follows.
constexpr int kAhead = 4096;

template <class Ops>
Opinion opine(const typename Ops::T* row, const float* weights, int channels) {
  using Vec = typename Ops::Vec;
  Vec margins[4] = {}, sizes[4] = {};
  int c = 0;
  for (; c + 4 * Ops::lanes <= channels; c += 4 * Ops::lanes) {
    LAS_UNROLL
    for (int v = 0; v < 4; v++) {
      __builtin_prefetch(row + c + v * Ops::lanes + kAhead);
      const Vec value = Ops::load(row + c + v * Ops::lanes);
      margins[v] += value * Ops::load_float(weights + c + v * Ops::lanes);
      sizes[v] += value < Vec{} ? -value : value;
    }
  }
  const Vec margin = (margins[0] + margins[1]) + (margins[2] + margins[3]);
  const Vec size = (sizes[0] + sizes[1]) + (sizes[2] + sizes[3]);
  Opinion sum{0, 0};
  for (int i = 0; i < Ops::lanes; i++) {
    sum.margin += margin[i];
    sum.size += size[i];
  }
  for (; c < channels; c++) {
    const float value = Ops::to_float(row[c]);
    sum.margin += value * weights[c];
    sum.size += value < 0 ? -value : value;
  }
  return sum;
}

template <class Ops>
void relu(const typename Ops::T* row, typename Ops::T* out, int channels) {
  using Vec = typename Ops::Vec;
  int c = 0;
  for (; c + Ops::lanes <= channels; c += Ops::lanes) {
    const Vec value = Ops::load(row + c);
    Ops::store(out + c, value < Vec{} ? Vec{} : value);
  }
  for (; c < channels; c++) out[c] = Ops::to_float(row[c]) < 0 ? typename Ops::T{} : row[c];
}
