#include "wide.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#define LAS_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,prefer-vector-width=512")))
#endif

namespace las {
namespace {

bool has_avx512() {
#if defined(__x86_64__)
  static const bool here = __builtin_cpu_supports("avx512f") &&
                           __builtin_cpu_supports("avx512vl") &&
                           __builtin_cpu_supports("avx512dq");
  return here;
#else
  return false;
#endif
}

#if defined(__x86_64__)

LAS_AVX512 void add_row_wide(double* sum, const float* row, int64_t count) {
  for (int64_t i = 0; i < count; i += 8) {
    const __mmask8 mask = count - i >= 8 ? 0xff : (1 << (count - i)) - 1;
    const __m512d values = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, row + i));
    _mm512_mask_storeu_pd(sum + i, mask,
                          _mm512_add_pd(_mm512_maskz_loadu_pd(mask, sum + i), values));
  }
}

LAS_AVX512 void add_scaled_wide(double* sum, double factor, const double* row, int64_t count) {
  const __m512d factors = _mm512_set1_pd(factor);
  for (int64_t i = 0; i < count; i += 8) {
    const __mmask8 mask = count - i >= 8 ? 0xff : (1 << (count - i)) - 1;
    const __m512d product = _mm512_mul_pd(factors, _mm512_maskz_loadu_pd(mask, row + i));
    _mm512_mask_storeu_pd(sum + i, mask,
                          _mm512_add_pd(_mm512_maskz_loadu_pd(mask, sum + i), product));
  }
}

LAS_AVX512 void subtract_scaled_wide(float* sum, float factor, const float* row, int64_t count) {
  const __m512 factors = _mm512_set1_ps(factor);
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = count - i >= 16 ? 0xffff : (1 << (count - i)) - 1;
    const __m512 product = _mm512_mul_ps(factors, _mm512_maskz_loadu_ps(mask, row + i));
    _mm512_mask_storeu_ps(sum + i, mask,
                          _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, sum + i), product));
  }
}

LAS_AVX512 void compress_wide(const float* row, const uint16_t* bits, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = bits[i / 16];
    _mm512_storeu_ps(out, _mm512_maskz_compress_ps(mask, _mm512_maskz_loadu_ps(mask, row + i)));
    out += __builtin_popcount(mask);
  }
}

LAS_AVX512 void pack_rows_wide(const float* const* rows, int count, int64_t column, int columns,
                               int width, float* out) {
  for (int row = 0; row < count; row++) {
    const float* from = rows[row] + column;
    for (int i = 0; i < width; i += 16, out += 16) {
      const int left = columns - i;
      const __mmask16 mask = left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0;
      _mm512_storeu_ps(out, _mm512_maskz_loadu_ps(mask, from + i));
    }
  }
}

#endif

}  // namespace

#if defined(__x86_64__)
#define LAS_IF_WIDE(call) \
  if (has_avx512()) return call;
#else
#define LAS_IF_WIDE(call)
#endif

void add_row(double* sum, const float* row, int64_t count) {
  LAS_IF_WIDE(add_row_wide(sum, row, count))
  for (int64_t i = 0; i < count; i++) sum[i] += row[i];
}

void add_scaled(double* sum, double factor, const double* row, int64_t count) {
  LAS_IF_WIDE(add_scaled_wide(sum, factor, row, count))
  for (int64_t i = 0; i < count; i++) sum[i] += factor * row[i];
}

void subtract_scaled(float* sum, float factor, const float* row, int64_t count) {
  LAS_IF_WIDE(subtract_scaled_wide(sum, factor, row, count))
  for (int64_t i = 0; i < count; i++) sum[i] -= factor * row[i];
}

void compress(const float* row, const uint16_t* bits, int64_t count, float* out) {
  LAS_IF_WIDE(compress_wide(row, bits, count, out))
  for (int64_t i = 0; i < count; i++) {
    if (bits[i / 16] >> i % 16 & 1) *out++ = row[i];
  }
}

void pack_rows(const float* const* rows, int count, int64_t column, int columns, int width,
               float* out) {
  if (width % 16 == 0) {
    LAS_IF_WIDE(pack_rows_wide(rows, count, column, columns, width, out))
  }
  for (int row = 0; row < count; row++, out += width) {
    std::memcpy(out, rows[row] + column, sizeof(float) * columns);
    std::fill(out + columns, out + width, 0.f);
  }
}

}  // namespace las
