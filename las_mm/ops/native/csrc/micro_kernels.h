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

// Lanes are summed by halves: a chain of additions would take longer than the row itself.
typedef float Vec16 __attribute__((vector_size(16)));
typedef int Ints16 __attribute__((vector_size(16)));

inline Vec16 fold_lanes(Vec16 lanes) { return lanes; }

#if LAS_VECTOR_BYTES >= 32
typedef float Vec32 __attribute__((vector_size(32)));

inline Vec16 fold_lanes(Vec32 lanes) {
  Vec16 halves[2];
  __builtin_memcpy(halves, &lanes, sizeof(lanes));
  return halves[0] + halves[1];
}
#endif

#if LAS_VECTOR_BYTES >= 64
typedef float Vec64 __attribute__((vector_size(64)));

inline Vec16 fold_lanes(Vec64 lanes) {
  Vec32 halves[2];
  __builtin_memcpy(halves, &lanes, sizeof(lanes));
  return fold_lanes(halves[0] + halves[1]);
}
#endif

inline Vec16 blend(Vec16 a, Vec16 b, Ints16 lanes) {
#if defined(__clang__)
  Vec16 both;
  for (int i = 0; i < 4; i++) both[i] = lanes[i] < 4 ? a[lanes[i]] : b[lanes[i] - 4];
  return both;
#else
  return __builtin_shuffle(a, b, lanes);
#endif
}

// The sums of four vectors' lanes.
template <class Vec>
inline Vec16 sum_lanes(const Vec* four) {
  const Vec16 a = fold_lanes(four[0]), b = fold_lanes(four[1]);
  const Vec16 c = fold_lanes(four[2]), d = fold_lanes(four[3]);
  const Vec16 ab = blend(a, b, Ints16{0, 4, 1, 5}) + blend(a, b, Ints16{2, 6, 3, 7});
  const Vec16 cd = blend(c, d, Ints16{0, 4, 1, 5}) + blend(c, d, Ints16{2, 6, 3, 7});
  return blend(ab, cd, Ints16{0, 1, 4, 5}) + blend(ab, cd, Ints16{2, 3, 6, 7});
}

// The opinions of L maskers of four pixels at a time; a rest repeats its last one.
template <class Ops, int L>
inline void opine_for(const typename Ops::T* rows, const int* pixels, int count, int channels,
                      const Listener* listeners, int ahead) {
  using Vec = typename Ops::Vec;
  for (int i = 0; i < count; i += 4) {
    const typename Ops::T* row[4];
    LAS_UNROLL
    for (int m = 0; m < 4; m++) {
      row[m] = rows + pixels[i + m < count ? i + m : count - 1] * static_cast<long>(channels);
    }
    Vec margins[L][4] = {}, sizes[4] = {};
    int c = 0;
    for (; c + Ops::lanes <= channels; c += Ops::lanes) {
      Vec weights[L];
      LAS_UNROLL
      for (int l = 0; l < L; l++) weights[l] = Ops::load_float(listeners[l].weights + c);
      LAS_UNROLL
      for (int m = 0; m < 4; m++) {
        __builtin_prefetch(row[m] + c + ahead);
        const Vec value = Ops::load(row[m] + c);
        sizes[m] += Ops::magnitude(value);
        LAS_UNROLL
        for (int l = 0; l < L; l++) margins[l][m] += value * weights[l];
      }
    }
    Vec16 size = sum_lanes(sizes), margin[L];
    for (int l = 0; l < L; l++) margin[l] = sum_lanes(margins[l]);
    for (int m = 0; m < 4 && i + m < count; m++) {
      for (int rest = c; rest < channels; rest++) {
        const float value = Ops::to_float(row[m][rest]);
        size[m] += value < 0 ? -value : value;
        for (int l = 0; l < L; l++) margin[l][m] += value * listeners[l].weights[rest];
      }
      for (int l = 0; l < L; l++) listeners[l].opinions[pixels[i + m]] = {margin[l][m], size[m]};
    }
  }
}

template <class Ops>
void opine(const typename Ops::T* rows, const int* pixels, int count, int channels,
           const Listener* listeners, int maskers, int ahead) {
  for (; maskers >= 2; maskers -= 2, listeners += 2) {
    opine_for<Ops, 2>(rows, pixels, count, channels, listeners, ahead);
  }
  if (maskers) opine_for<Ops, 1>(rows, pixels, count, channels, listeners, ahead);
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

// One dimension of Winograd's transform of the inputs, Bᵀ d.
template <class Vec>
inline void transform_inputs(Vec* d, int step) {
  const Vec first = d[0] - d[2 * step], last = d[step] - d[3 * step];
  const Vec sum = d[step] + d[2 * step], difference = d[2 * step] - d[step];
  d[0] = first;
  d[step] = sum;
  d[2 * step] = difference;
  d[3 * step] = last;
}

template <class Ops>
void winograd_inputs(const typename Ops::T* const* rows, typename Ops::T* out, int64_t stride,
                     int channels) {
  for (int c = 0; c < channels; c += Ops::lanes) {
    typename Ops::Vec d[16];
    LAS_UNROLL
    for (int i = 0; i < 16; i++) d[i] = Ops::load(rows[i] + c);
    LAS_UNROLL
    for (int i = 0; i < 4; i++) transform_inputs(d + i, 4);
    LAS_UNROLL
    for (int i = 0; i < 4; i++) transform_inputs(d + 4 * i, 1);
    LAS_UNROLL
    for (int i = 0; i < 16; i++) Ops::store(out + i * stride + c, d[i]);
  }
}

template <class Ops>
void winograd_outputs(const typename Ops::T* rows, int64_t stride, const float* bias,
                      typename Ops::T* const* out, int channels) {
  using Vec = typename Ops::Vec;
  for (int c = 0; c < channels; c += Ops::lanes) {
    Vec upper[4], lower[4];
    LAS_UNROLL
    for (int i = 0; i < 4; i++) {
      const typename Ops::T* column = rows + i * stride + c;
      const Vec m1 = Ops::load(column + 4 * stride), m2 = Ops::load(column + 8 * stride);
      upper[i] = Ops::load(column) + m1 + m2;
      lower[i] = m1 - m2 - Ops::load(column + 12 * stride);
    }
    const Vec b = Ops::load_float(bias + c);
    const Vec sums[4] = {upper[0] + upper[1] + upper[2] + b, upper[1] - upper[2] - upper[3] + b,
                         lower[0] + lower[1] + lower[2] + b, lower[1] - lower[2] - lower[3] + b};
    LAS_UNROLL
    for (int i = 0; i < 4; i++) Ops::store(out[i] + c, sums[i] < Vec{} ? Vec{} : sums[i]);
  }
}

// As PyTorch does it, a value that is no number is the largest.
template <class Ops>
void max_rows(const typename Ops::T* const* rows, int count, typename Ops::T* out, int length) {
  using Vec = typename Ops::Vec;
  int c = 0;
  for (; c + Ops::lanes <= length; c += Ops::lanes) {
    Vec highest = Ops::load(rows[0] + c);
    for (int i = 1; i < count; i++) {
      const Vec value = Ops::load(rows[i] + c);
      highest = (highest >= value) | (highest != highest) ? highest : value;
    }
    Ops::store(out + c, highest);
  }
  for (; c < length; c++) {
    out[c] = rows[0][c];
    for (int i = 1; i < count; i++) {
      const float highest = Ops::to_float(out[c]), value = Ops::to_float(rows[i][c]);
      if (!(highest >= value) && highest == highest) out[c] = rows[i][c];
    }
  }
}

template <class Ops>
void sum_rows(const typename Ops::T* rows, int count, int channels, float* sums) {
  using Vec = typename Ops::Vec;
  int c = 0;
  for (; c + Ops::lanes <= channels; c += Ops::lanes) {
    Vec sum = {};
    for (long i = 0; i < count; i++) sum += Ops::load(rows + i * channels + c);
    __builtin_memcpy(sums + c, &sum, sizeof(sum));
  }
  for (; c < channels; c++) {
    sums[c] = 0;
    for (long i = 0; i < count; i++) sums[c] += Ops::to_float(rows[i * channels + c]);
  }
}

template <class Ops>
void scale_rows(typename Ops::T* rows, int count, int channels, const float* factors) {
  const int cut = channels % Ops::lanes, whole = channels - cut;
  for (typename Ops::T* end = rows + static_cast<long>(count) * channels; rows < end;) {
    for (int c = 0; c < whole; c += Ops::lanes, rows += Ops::lanes) {
      Ops::store(rows, Ops::load(rows) * Ops::load_float(factors + c));
    }
    if (!cut) continue;
    typename Ops::T last[Ops::lanes] = {};
    float last_factors[Ops::lanes] = {};
    __builtin_memcpy(last, rows, cut * sizeof(last[0]));
    __builtin_memcpy(last_factors, factors + whole, cut * sizeof(float));
    Ops::store(last, Ops::load(last) * Ops::load_float(last_factors));
    __builtin_memcpy(rows, last, cut * sizeof(last[0]));
    rows += cut;
  }
}
