// Weights in the precision of features, and as Winograd's algorithm wants them.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace las {

inline void convert(float value, float& out) { out = value; }

// Round to nearest, ties to even; weights are finite.
inline void convert(float value, bfloat16& out) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  out.bits = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// A whole number that fits into a byte with a sign.
inline void convert(float value, uint8_t& out) { out = static_cast<uint8_t>(static_cast<int8_t>(value)); }

inline float to_float(uint8_t value) { return value; }
inline float to_float(float value) { return value; }

inline float to_float(bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

// G g Gᵀ of Winograd's F(2×2, 3×3), in double precision: (3, 3) -> (4, 4).
void transform_kernel(const float* kernel, float* out);

}  // namespace las
