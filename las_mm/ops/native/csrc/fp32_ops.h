// Ops of single precision on vectors of LAS_VECTOR_BYTES, in the compilers' own vector types: the
// same text becomes SSE2, NEON, AVX2 or AVX-512 code, by the target of the file that includes it.

struct Fp32 {
  using T = float;
  typedef float Vec __attribute__((vector_size(LAS_VECTOR_BYTES)));
  typedef float Unaligned __attribute__((vector_size(LAS_VECTOR_BYTES), aligned(4), may_alias));
  typedef double Doubles __attribute__((vector_size(2 * LAS_VECTOR_BYTES)));
  typedef int Bits __attribute__((vector_size(LAS_VECTOR_BYTES)));
  using Weights = Vec;
  using Scalar = float;
  static constexpr int lanes = LAS_VECTOR_BYTES / sizeof(float);
  static constexpr int step = 1;

  static Vec load(const T* p) { return *(const Unaligned*)p; }
  static Vec load_float(const float* p) { return load(p); }
  static Weights load_weights(const T* p) { return load(p); }
  static Scalar scalar(const T* p) { return *p; }
  static Vec multiply_add(Vec sum, Scalar a, Weights w) { return sum + a * w; }
  static void store(T* p, Vec value) { *(Unaligned*)p = value; }
  // The first `count` lanes; the others are zero.
#if LAS_VECTOR_BYTES == 64
  static Vec load_first(const T* p, int count) {
    return _mm512_maskz_loadu_ps((1u << count) - 1, p);
  }
  static void store_first(T* p, int count, Vec value) {
    _mm512_mask_storeu_ps(p, (1u << count) - 1, value);
  }
#else
  static Vec load_first(const T* p, int count) {
    float some[lanes] = {};
    for (int i = 0; i < count; i++) some[i] = p[i];
    return load(some);
  }
  static void store_first(T* p, int count, Vec value) {
    float some[lanes];
    store(some, value);
    for (int i = 0; i < count; i++) p[i] = some[i];
  }
#endif
  static Vec magnitude(Vec value) { return (Vec)((Bits)value & 0x7fffffff); }
  static float to_float(T value) { return value; }
};
