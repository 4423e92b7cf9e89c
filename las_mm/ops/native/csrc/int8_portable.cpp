// Kernels for features in 8 bits on whatever CPU the compiler targets by default.
#include "kernels.h"

namespace las {
namespace {

#define LAS_VECTOR_BYTES 16
#include "micro_kernels.h"

struct PortableBytes {
  using T = uint8_t;
  typedef float Vec __attribute__((vector_size(16)));
  typedef int Ints __attribute__((vector_size(16)));
  struct Bytes {
    uint8_t values[16];
  };
  static constexpr int lanes = 4;

  static Vec load_float(const float* p) {
    Vec value;
    __builtin_memcpy(&value, p, sizeof(value));
    return value;
  }
  static Ints load_ints(const T* p) { return Ints{p[0], p[1], p[2], p[3]}; }
  static Vec load(const T* p) { return __builtin_convertvector(load_ints(p), Vec); }
  static Vec magnitude(Vec value) { return value; }
  static float to_float(T value) { return value; }
  static Bytes load_weights(const T* p) {
    Bytes bytes;
    __builtin_memcpy(bytes.values, p, 16);
    return bytes;
  }
  static Bytes broadcast(const T* p) {
    Bytes bytes;
    __builtin_memcpy(bytes.values, p, 4);
    return bytes;
  }
  static Ints multiply_add(Ints sum, const Bytes& four, const Bytes& w) {
    for (int lane = 0; lane < lanes; lane++) {
      for (int i = 0; i < 4; i++) {
        sum[lane] += four.values[i] * static_cast<int8_t>(w.values[4 * lane + i]);
      }
    }
    return sum;
  }
  static void store(T* p, Ints value) {
    for (int i = 0; i < lanes; i++) p[i] = value[i] < 0 ? 0 : value[i] > 255 ? 255 : value[i];
  }
};

#include "int8_kernels.h"

const Kernels<uint8_t> kernels = LAS_BYTE_KERNELS("portable", PortableBytes);

}  // namespace

const Kernels<uint8_t>* portable_int8_kernels() { return &kernels; }

}  // namespace las
