// Ops of bytes in vectors of 32 bytes, but for their product: the inside of a class.

  using T = uint8_t;
  typedef float Vec __attribute__((vector_size(32)));
  typedef int Ints __attribute__((vector_size(32)));
  using Bytes = __m256i;
  static constexpr int lanes = 8;

  static Vec load_float(const float* p) { return (Vec)_mm256_loadu_ps(p); }
  static Ints load_ints(const T* p) {
    return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
  }
  static Vec load(const T* p) { return __builtin_convertvector(load_ints(p), Vec); }
  static Vec magnitude(Vec value) { return value; }  // without a sign
  static float to_float(T value) { return value; }
  static Bytes load_weights(const T* p) { return _mm256_loadu_si256((const __m256i*)p); }
  static Bytes broadcast(const T* p) {
    int four;
    __builtin_memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
  }
  static void store(T* p, Ints value) {
    const __m256i words = _mm256_packs_epi32((__m256i)value, (__m256i)value);
    const __m256i bytes = _mm256_packus_epi16(words, words);
    const int halves[2] = {_mm256_extract_epi32(bytes, 0), _mm256_extract_epi32(bytes, 4)};
    __builtin_memcpy(p, halves, 8);
  }
