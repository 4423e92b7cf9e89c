// Ops of single precision on vectors of LAS_VECTOR_BYTES, in the compilers' own vector types: the
// same text becomes SSE2, NEON, AVX2 or AVX-512 code, by the target of the file that includes it.

struct Fp32 {
  using T = float;
  typedef float Vec __attribute__((vector_size(LAS_VECTOR_BYTES)));
  typedef float Unaligned __attribute__((vector_size(LAS_VECTOR_BYTES), aligned(4), may_alias));
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
  static Vec magnitude(Vec value) { return (Vec)((Bits)value & 0x7fffffff); }
  static float to_float(T value) { return value; }
};
