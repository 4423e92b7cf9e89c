// Loops over long rows outside of the micro-kernels, in the widest instructions at hand.
#pragma once

#include <cstdint>

namespace las {

// sum[i] += row[i]
void add_row(double* sum, const float* row, int64_t count);
// sum[i] += factor * row[i]
void add_scaled(double* sum, double factor, const double* row, int64_t count);
// sum[i] -= factor * row[i]
void subtract_scaled(float* sum, float factor, const float* row, int64_t count);
// The entries of a row of `count` whose bits are set, one after another; reads them alone and writes
// up to 15 entries more. bits: 16 entries each.
void compress(const float* row, const uint16_t* bits, int64_t count, float* out);
// Some columns of some rows one after another, each row with zeros up to `width`.
void pack_rows(const float* const* rows, int count, int64_t column, int columns, int width,
               float* out);

}  // namespace las
