// The micro-kernels of features in 8 bits, of one instruction set: included like micro_kernels.h, behind
// it, beside a class of Ops that has `lanes` sums of 32 bits in a vector of Ints, and multiplies four
// neighbouring bytes of a row by four weights of each of `lanes` output channels.
//
// Every instruction set gives the same integers: products are summed without rounding or saturation,
// and a sum is rounded once by each factor, to nearest, with no addition that could be fused.

template <class Ops>
inline typename Ops::Ints rounded(typename Ops::Vec value) {
  using Vec = typename Ops::Vec;
  const Vec most = Vec{} + static_cast<float>(kMostQuantized);
  value = value > most ? most : value;
  value = value < -most ? -most : value;
  const Vec magic = Vec{} + 12582912.f;  // 1.5 · 2^23: sums have no bits behind the point
  return __builtin_convertvector(value + magic - magic, typename Ops::Ints);
}

template <class Ops, int V>
__attribute__((always_inline)) inline void write_bytes(const Tile<uint8_t>& tile, int m,
                                                       const typename Ops::Ints* sum) {
  using Ints = typename Ops::Ints;
  using Vec = typename Ops::Vec;
  uint8_t* out = tile.out[m];
  const uint8_t* residual = tile.residual ? tile.residual[m] : nullptr;
  uint8_t last[V * Ops::lanes] = {};
  const bool cut = tile.columns < V * Ops::lanes;
  if (cut && residual) {
    __builtin_memcpy(last, residual, tile.columns);
    residual = last;
  }
  LAS_UNROLL
  for (int v = 0; v < V; v++) {
    const Vec scales = Ops::load_float(tile.scales + v * Ops::lanes);
    const Vec value = __builtin_convertvector(sum[v], Vec) * scales * tile.rescale.factor;
    Ints whole = rounded<Ops>(value) + tile.rescale.zero;
    if (residual) {
      const Ints added = Ops::load_ints(residual + v * Ops::lanes) - tile.rescale.residual_zero;
      whole += rounded<Ops>(__builtin_convertvector(added, Vec) * tile.rescale.residual_factor);
    }
    Ops::store((cut ? last : out) + v * Ops::lanes, whole);
  }
  if (cut) __builtin_memcpy(out, last, tile.columns);
}

template <class Ops, int H, int V>
void multiply_bytes(const Tile<uint8_t>& tile) {
  using Ints = typename Ops::Ints;
  Ints sum[H][V];
  LAS_UNROLL
  for (int v = 0; v < V; v++) {
    const Ints bias = __builtin_convertvector(Ops::load_float(tile.bias + v * Ops::lanes), Ints);
    LAS_UNROLL
    for (int m = 0; m < H; m++) sum[m][v] = bias;
  }
  const uint8_t* weights = tile.weights;
  const char* ahead = tile.ahead;
  for (int tap = 0; tap < tile.taps; tap++) {
    const uint8_t* row[H];
    LAS_UNROLL
    for (int m = 0; m < H; m++) row[m] = tile.rows[tap * H + m] + tile.first_channel;
    for (long k = 0; k < tile.depth; k += 4) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += 64;
      typename Ops::Bytes w[V];
      LAS_UNROLL
      for (int v = 0; v < V; v++) w[v] = Ops::load_weights(weights + v * Ops::lanes * 4);
      weights += V * Ops::lanes * 4;
      LAS_UNROLL
      for (int m = 0; m < H; m++) {
        const typename Ops::Bytes four = Ops::broadcast(row[m] + k);
        LAS_UNROLL
        for (int v = 0; v < V; v++) sum[m][v] = Ops::multiply_add(sum[m][v], four, w[v]);
      }
    }
  }
  LAS_UNROLL
  for (int m = 0; m < H; m++) write_bytes<Ops, V>(tile, m, sum[m]);
}

// out = row / scale, rounded and saturated; `inverse` is 1 / scale.
template <class Ops>
void quantize_row(const float* row, int64_t count, float inverse, uint8_t* out) {
  int64_t i = 0;
  for (; i + Ops::lanes <= count; i += Ops::lanes) {
    Ops::store(out + i, rounded<Ops>(Ops::load_float(row + i) * inverse));
  }
  if (i == count) return;
  float some[Ops::lanes] = {};
  uint8_t bytes[Ops::lanes];
  __builtin_memcpy(some, row + i, (count - i) * sizeof(float));
  Ops::store(bytes, rounded<Ops>(Ops::load_float(some) * inverse));
  __builtin_memcpy(out + i, bytes, count - i);
}

// out = row * scale.
template <class Ops>
void dequantize_row(const uint8_t* row, int64_t count, float scale, float* out) {
  int64_t i = 0;
  for (; i + Ops::lanes <= count; i += Ops::lanes) {
    const typename Ops::Vec value = Ops::load(row + i) * scale;
    __builtin_memcpy(out + i, &value, sizeof(value));
  }
  for (; i < count; i++) out[i] = row[i] * scale;
}

// Features have no negative values: a ReLU has nothing to do.
inline void copy_bytes(const uint8_t* row, uint8_t* out, int channels) {
  if (row != out) __builtin_memcpy(out, row, channels);
}

// The table of an instruction set with 16 registers.
#define LAS_BYTE_KERNELS(isa, Ops)                                                            \
  {isa, Ops::lanes, 2, 4, {0, 8, 6},                                                           \
   {nullptr, multiply_bytes<Ops, 8, 1>, multiply_bytes<Ops, 6, 2>},                            \
   {nullptr, multiply_bytes<Ops, 4, 1>, multiply_bytes<Ops, 3, 2>},                            \
   {nullptr, nullptr}, nullptr, opine<Ops>, copy_bytes, nullptr, nullptr, nullptr, nullptr,    \
   nullptr, {}, {quantize_row<Ops>, dequantize_row<Ops>}}
