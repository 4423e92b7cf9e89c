// Kernels that work on rows of features, not on products: included by micro_kernels.h, into the
// namespace of each instruction set as it is.

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
