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

// Sums of a vector's lanes, by halves: a chain of additions would take longer than the row itself.
typedef float Vec16 __attribute__((vector_size(16)));

inline float sum_lanes(Vec16 lanes) { return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]); }

#if LAS_VECTOR_BYTES >= 32
typedef float Vec32 __attribute__((vector_size(32)));

inline float sum_lanes(Vec32 lanes) {
  Vec16 halves[2];
  __builtin_memcpy(halves, &lanes, sizeof(lanes));
  return sum_lanes(halves[0] + halves[1]);
}
#endif

#if LAS_VECTOR_BYTES >= 64
typedef float Vec64 __attribute__((vector_size(64)));

inline float sum_lanes(Vec64 lanes) {
  Vec32 halves[2];
  __builtin_memcpy(halves, &lanes, sizeof(lanes));
  return sum_lanes(halves[0] + halves[1]);
}
#endif

// How far ahead of its use memory is fetched, in elements: rows pass by faster than the hardware
// follows.
constexpr int kAhead = 4096;

template <class Ops, int Rows>
__attribute__((always_inline)) inline void opine_rows(const typename Ops::T* rows, int channels,
                                                      const float* weights, Opinion* out) {
  using Vec = typename Ops::Vec;
  Vec margins[Rows][2] = {}, sizes[Rows][2] = {};
  int c = 0;
  for (; c + 2 * Ops::lanes <= channels; c += 2 * Ops::lanes) {
    LAS_UNROLL
    for (int v = 0; v < 2; v++) {
      const int at = c + v * Ops::lanes;
      const Vec weight = Ops::load_float(weights + at);
      LAS_UNROLL
      for (int m = 0; m < Rows; m++) {
        const typename Ops::T* row = rows + m * static_cast<long>(channels);
        __builtin_prefetch(row + at + kAhead);
        const Vec value = Ops::load(row + at);
        margins[m][v] += value * weight;
        sizes[m][v] += Ops::magnitude(value);
      }
    }
  }
  LAS_UNROLL
  for (int m = 0; m < Rows; m++) {
    out[m] = {sum_lanes(margins[m][0] + margins[m][1]), sum_lanes(sizes[m][0] + sizes[m][1])};
    for (int rest = c; rest < channels; rest++) {
      const float value = Ops::to_float(rows[m * static_cast<long>(channels) + rest]);
      out[m].margin += value * weights[rest];
      out[m].size += value < 0 ? -value : value;
    }
  }
}

template <class Ops>
void opine(const typename Ops::T* rows, int count, int channels, const float* weights,
           Opinion* out) {
  int i = 0;
  for (; i + 4 <= count; i += 4) {
    opine_rows<Ops, 4>(rows + i * static_cast<long>(channels), channels, weights, out + i);
  }
  for (; i < count; i++) {
    opine_rows<Ops, 1>(rows + i * static_cast<long>(channels), channels, weights, out + i);
  }
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
