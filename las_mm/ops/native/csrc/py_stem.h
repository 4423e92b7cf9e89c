// A packed stem as Python holds it.
#pragma once

#include "py_block.h"
#include "stem.h"

namespace las {

template <class T>
class PyStem {
 public:
  using Element = typename PyBlock<T>::Element;

  // pool: kernel, stride and padding. limit: where the activation ends.
  PyStem(const Conv& conv, const std::tuple<int, int, int>& pool, const std::string& isa,
         float limit) {
    const Kernels<T>* kernels = find_kernels<T>(isa);
    TORCH_CHECK_VALUE(kernels, "isa: this CPU has no '", isa, "'");
    const ConvShape shape = shape_of(conv);
    const auto& [kernel, stride, padding] = pool;
    TORCH_CHECK_VALUE(std::max(shape.kernel, kernel) <= kMaxKernel, "kernel_size: got ",
                      std::max(shape.kernel, kernel), ", larger than ", kMaxKernel);
    const at::Tensor w = std::get<0>(conv).contiguous(), b = std::get<1>(conv).contiguous();
    stem_ = std::make_unique<Stem<T>>(shape, w.const_data_ptr<float>(), b.const_data_ptr<float>(),
                                      PoolShape{kernel, stride, padding}, limit, *kernels);
  }

  // (N, C, H, W) in any layout -> (N, C', H', W'), channels-last.
  at::Tensor run(const at::Tensor& x) const {
    const ConvShape& shape = stem_->shape();
    TORCH_CHECK_VALUE(x.dim() == 4 && x.size(1) == shape.in_channels, "x: got ", x.sizes(),
                      ", its size must be (N, ", shape.in_channels, ", H, W)");
    const int h = x.size(2), w = x.size(3), out_h = stem_->out_size(h), out_w = stem_->out_size(w);
    TORCH_CHECK_VALUE(h > 0 && w > 0 && out_h > 0 && out_w > 0, "x: got ", x.sizes(),
                      ", too small for the pooling");
    const at::Tensor out = empty_features({x.size(0), shape.out_channels, out_h, out_w}, x.options(),
                                          at::MemoryFormat::ChannelsLast);
    const Images<T> images{reinterpret_cast<const T*>(x.const_data_ptr<Element>()),
                           static_cast<int>(x.size(0)), shape.in_channels, h, w,
                           x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
    stem_->run(images, reinterpret_cast<T*>(out.mutable_data_ptr<Element>()), free_threads());
    return out;
  }

  const char* isa() const { return stem_->kernels().isa; }

 private:
  std::unique_ptr<Stem<T>> stem_;
};

}  // namespace las
