// Micro-kernels: what depends on the instruction set, behind one table of functions.
#pragma once

#include <cstdint>

namespace las {

struct bfloat16 {
  uint16_t bits;
};

// What follows a convolution: nothing, a ReLU, or one that ends at a limit, such as ReLU6.
struct Activation {
  bool on = true;
  float limit = __builtin_inff();
};

// How sums of products of bytes become bytes again:
//   round(sum * scale * factor) + zero [+ round((residual - residual_zero) * residual_factor)],
// saturated, where `scale` is the output channel's. Of other elements it has no meaning.
struct Rescale {
  float factor = 1;
  int zero = 0;
  float residual_factor = 1;
  int residual_zero = 0;
};

// Rounded values are cut to this much on either side: more than any byte, and exact in every sum.
constexpr int kMostQuantized = 1 << 20;

// One call of a micro-kernel: `height` output pixels by one panel of output channels. The sum runs
// over the taps under the convolution's kernel and over the input channels, always in this order,
// so that an output does not depend on which thread computes it, nor on its neighbours.
template <class T>
struct Tile {
  const T* const* rows;      // [taps][height] input rows
  int taps;
  int depth;                 // input channels of a group
  int first_channel;         // of the group, in the input row
  const T* weights;          // [taps][depth][vectors * lanes], see PackedConv
  const float* bias;         // [vectors * lanes]
  const T* const* residual;  // [height] rows to add, or null
  T* const* out;             // [height]
  const char* ahead;         // memory to fetch on the way, a cache line per step of the depth
  int columns;               // output channels to write, at most vectors * lanes
  Activation act;
  int height;                // of a depthwise convolution, whose kernel takes any
  const float* scales = nullptr;  // [vectors * lanes], of bytes alone
  Rescale rescale = {};
};

// A masker's opinion of a pixel in single precision: weights · row, and the sum of |row|, which
// bounds the rounding error.
struct Opinion {
  float margin, size;
};

// A masker that wants to know every pixel of a feature, and where its opinions of them go.
struct Listener {
  const float* weights;
  Opinion* opinions;
};

// The widest panel in vectors; panels at the end of a convolution are narrower.
constexpr int kMaxVectors = 4;

// Pixels by which a tile can be higher than usual.
constexpr int kMostExtra = 2;

// What a batch norm does to a channel: (x - mean) * scale + shift.
struct Line {
  float mean, scale, shift;
};

// What training takes, of one channel of one image: `count` pixels, or `height` times `width`.
struct TrainingKernels {
  // Gradients of the end of a block, out = relu(pixels * line(x) + identity):
  // of_identity = grad where out > 0, else 0; of_pixels += of_identity * line(x), in memory for
  // whole vectors; and to `sums` come those of pixels * of_identity and of that times (x - mean).
  void (*end_gradients)(const float* grad, const float* out, const float* x, const float* pixels,
                        int64_t count, Line line, float* of_identity, float* of_pixels,
                        double* sums);
  // of_x = pixels * of_identity * line.scale - (x - mean) * slope - offset.
  void (*end_input)(const float* of_identity, const float* x, const float* pixels, int64_t count,
                    Line line, float slope, float offset, float* of_x);
  // Averages over windows, the last ones perhaps cut; `row` has memory for `width` numbers.
  void (*pool)(const float* x, int64_t height, int64_t width, int64_t window, float* row,
               float* out);
  // The gradient of that: each window's, shared among its pixels.
  void (*unpool)(const float* grad, int64_t height, int64_t width, int64_t window, float* of_x);
  // out = a + b + c.
  void (*add)(const float* a, const float* b, const float* c, int64_t count, float* out);
};

// Between single precision and bytes, `count` of them in a row.
struct ByteKernels {
  void (*quantize)(const float* row, int64_t count, float inverse, uint8_t* out);
  void (*dequantize)(const uint8_t* row, int64_t count, float scale, float* out);
};

template <class T>
struct Kernels {
  const char* isa;
  int lanes;        // output channels in a vector
  int max_vectors;  // widest panel that the registers hold
  int depth_step;   // input channels multiplied at once; interleaved in the packed weights
  int height[kMaxVectors + 1];  // pixels in a tile, by the vectors of its panel; even
  void (*multiply[kMaxVectors + 1])(const Tile<T>&);
  void (*multiply_half[kMaxVectors + 1])(const Tile<T>&);  // half the height, for a rest
  // One and two pixels more than the height by two vectors, for a rest that is not worth a tile; or
  // null.
  void (*multiply_tall[kMostExtra])(const Tile<T>&);
  // A depthwise convolution, channel by channel: `depth` is 1, and the weights of a tile are
  // [vector][taps][lanes].
  void (*depthwise)(const Tile<T>&);
  // The opinions that some maskers have of some pixels, given by their numbers among the rows;
  // `ahead` elements further memory is fetched.
  void (*opine)(const T* rows, const int* pixels, int count, int channels,
                const Listener* listeners, int maskers, int ahead);
  // out = max(row, 0); `out` may be `row`.
  void (*relu)(const T* row, T* out, int channels);
  // Winograd's transforms of some rows at once, `channels` being a multiple of `lanes`; null where
  // the precision is too low for them. Bᵀ d B of the rows of 4×4 pixels, to 16 rows `stride` apart;
  // and relu(Aᵀ m A + bias), the 2×2 outputs of 16 such rows.
  void (*winograd_inputs)(const T* const* rows, T* out, int64_t stride, int channels);
  void (*winograd_outputs)(const T* rows, int64_t stride, const float* bias, T* const* out, int channels);
  // out = the largest of some rows, element by element; `out` may be none of them.
  void (*max_rows)(const T* const* rows, int count, T* out, int length);
  // sums[c] = sum of some rows' channel c, in their order.
  void (*sum_rows)(const T* rows, int count, int channels, float* sums);
  // Multiply some rows by factors of their channels.
  void (*scale_rows)(T* rows, int count, int channels, const float* factors);
  TrainingKernels training;  // of single precision only
  ByteKernels bytes;         // of bytes only
};

// Tallest tile of any kernel: sizes buffers on the stack.
constexpr int kMaxHeight = 12 + kMostExtra;

// The kernels of each instruction set; null where this CPU or this compiler has not got it.
const Kernels<float>* portable_kernels();
const Kernels<float>* avx2_kernels();
const Kernels<float>* avx512_kernels();
const Kernels<bfloat16>* avx512_bf16_kernels();
// Features in 8 bits without a sign, whose weights are bytes with one, of at most kMostWeight: pairs of
// products then fit into 16 bits, as AVX2 without VNNI sums them.
constexpr int kMostWeight = 63;
const Kernels<uint8_t>* portable_int8_kernels();
const Kernels<uint8_t>* avx2_int8_kernels();
const Kernels<uint8_t>* avxvnni_int8_kernels();
const Kernels<uint8_t>* avx512_vnni_int8_kernels();

}  // namespace las
