// A packed convolution that stands alone, as Python holds it.
#pragma once

#include "plain_conv.h"
#include "py_block.h"

namespace las {

template <class T>
class PyPlainConv {
 public:
  using Element = typename PyBlock<T>::Element;

  // limit: where the activation ends, none without one.
  PyPlainConv(const Conv& conv, const std::optional<float>& limit, const std::string& isa) {
    const Kernels<T>* kernels = find_kernels<T>(isa);
    TORCH_CHECK_VALUE(kernels, "isa: this CPU has no '", isa, "'");
    const Algorithm algorithm =
        shape_of(conv).is_depthwise() ? Algorithm::depthwise : Algorithm::direct;
    conv_ = std::make_unique<PlainConv<T>>(pack(conv, *kernels, algorithm),
                                           activation_of(limit), *kernels);
  }

  // (N, C, H, W) in any layout -> (N, C', H', W'), channels-last.
  at::Tensor run(const at::Tensor& feature) const {
    const ConvShape& shape = conv_->shape();
    const at::Tensor x =
        feature.dim() == 4 ? feature.contiguous(at::MemoryFormat::ChannelsLast) : feature;
    check_feature(x, shape.in_channels);
    const int n = x.size(0), h = x.size(2), w = x.size(3);
    const at::Tensor out =
        empty_features({n, shape.out_channels, shape.out_size(h), shape.out_size(w)}, x.options(),
                       at::MemoryFormat::ChannelsLast);
    conv_->run(reinterpret_cast<const T*>(x.const_data_ptr<Element>()), n, h, w,
               reinterpret_cast<T*>(out.mutable_data_ptr<Element>()), free_threads());
    return out;
  }

  const char* isa() const { return conv_->kernels().isa; }

 private:
  std::unique_ptr<PlainConv<T>> conv_;
};

}  // namespace las
