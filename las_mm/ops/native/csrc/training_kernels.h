// Kernels of training, included by each instruction set's file as micro_kernels.h is.

// How many lanes of a vector count: all of them, or the first ones, at the end of a run.
template <class Ops>
struct Whole {
  using Vec = typename Ops::Vec;
  Vec load(const float* p) const { return Ops::load(p); }
  void store(float* p, Vec value) const { Ops::store(p, value); }
};

template <class Ops>
struct First {
  using Vec = typename Ops::Vec;
  int count;
  Vec load(const float* p) const { return Ops::load_first(p, count); }
  void store(float* p, Vec value) const { Ops::store_first(p, count, value); }
};

// `step(i, lanes)` for each vector of a run of `count` elements, the last one perhaps in part; and
// `flush()` now and then, before a sum of single precision gets long.
template <class Ops, class Step, class Flush>
inline void walk(int64_t count, const Step& step, const Flush& flush) {
  constexpr int64_t kLongest = 64 * Ops::lanes;
  int64_t i = 0;
  while (count - i >= Ops::lanes) {
    const int64_t whole = count - i < kLongest ? count - i : kLongest;
    for (const int64_t end = i + whole - Ops::lanes; i <= end; i += Ops::lanes) {
      step(i, Whole<Ops>{});
    }
    flush();
  }
  if (i < count) {
    step(i, First<Ops>{static_cast<int>(count - i)});
    flush();
  }
}

template <class Ops, class Step>
inline void walk(int64_t count, const Step& step) {
  walk<Ops>(count, step, [] {});
}

// A sum in single precision that goes on in double before it gets long.
template <class Ops>
struct LongSum {
  typename Ops::Vec part = {};
  typename Ops::Doubles whole = {};
  void flush() {
    whole += __builtin_convertvector(part, typename Ops::Doubles);
    part = typename Ops::Vec{};
  }
  double value() const {
    double sums[Ops::lanes];
    __builtin_memcpy(sums, &whole, sizeof(sums));
    for (int half = Ops::lanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    }
    return sums[0];
  }
};

template <class Ops>
void end_gradients(const float* grad, const float* out, const float* x, const float* pixels,
                   int64_t count, Line line, float* of_identity, float* of_pixels, double* sums) {
  using Vec = typename Ops::Vec;
  LongSum<Ops> of_shift, of_scale;
  const auto step = [&](int64_t i, auto lanes) {
    const Vec g = lanes.load(out + i) <= Vec{} ? Vec{} : lanes.load(grad + i);
    const Vec centred = lanes.load(x + i) - line.mean;
    const Vec branch = centred * line.scale + line.shift;
    const Vec active = g * lanes.load(pixels + i);
    lanes.store(of_identity + i, g);
    Ops::store(of_pixels + i, Ops::load(of_pixels + i) + g * branch);  // padded
    of_shift.part += active;
    of_scale.part += active * centred;
  };
  walk<Ops>(count, step, [&] {
    of_shift.flush();
    of_scale.flush();
  });
  sums[0] += of_shift.value();
  sums[1] += of_scale.value();
}

template <class Ops>
void end_input(const float* of_identity, const float* x, const float* pixels, int64_t count,
               Line line, float slope, float offset, float* of_x) {
  walk<Ops>(count, [&](int64_t i, auto lanes) {
    const auto active = lanes.load(of_identity + i) * lanes.load(pixels + i);
    const auto centred = lanes.load(x + i) - line.mean;
    lanes.store(of_x + i, active * line.scale - (centred * slope + offset));
  });
}

template <class Ops>
void pool(const float* x, int64_t height, int64_t width, int64_t window, float* row, float* out) {
  for (int64_t top = 0; top < height; top += window) {
    const int64_t rows = window < height - top ? window : height - top;
    for (int64_t j = 0; j < width; j++) row[j] = x[j];
    for (int64_t i = 1; i < rows; i++) {
      for (int64_t j = 0; j < width; j++) row[j] += x[i * width + j];
    }
    x += rows * width;
    for (int64_t left = 0; left < width; left += window) {
      const int64_t columns = window < width - left ? window : width - left;
      float sum = 0;
      for (int64_t j = left; j < left + columns; j++) sum += row[j];
      *out++ = sum / static_cast<float>(rows * columns);
    }
  }
}

template <class Ops>
void unpool(const float* grad, int64_t height, int64_t width, int64_t window, float* of_x) {
  for (int64_t top = 0; top < height; top += window) {
    const int64_t rows = window < height - top ? window : height - top;
    float share = 0;
    for (int64_t j = 0, left = 0; j < width; j++, left--) {  // no loop over a window: too short
      if (left == 0) {
        left = window;
        const int64_t columns = window < width - j ? window : width - j;
        share = *grad++ / static_cast<float>(rows * columns);
      }
      of_x[j] = share;
    }
    for (int64_t i = 1; i < rows; i++) {
      for (int64_t j = 0; j < width; j++) of_x[i * width + j] = of_x[j];
    }
    of_x += rows * width;
  }
}

template <class Ops>
void add(const float* a, const float* b, const float* c, int64_t count, float* out) {
  walk<Ops>(count, [&](int64_t i, auto lanes) {
    lanes.store(out + i, lanes.load(a + i) + lanes.load(b + i) + lanes.load(c + i));
  });
}

template <class Ops>
constexpr TrainingKernels training_kernels_of = {end_gradients<Ops>, end_input<Ops>, pool<Ops>,
                                                 unpool<Ops>, add<Ops>};
