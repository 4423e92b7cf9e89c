// A block that skips channels, as Python holds it.
#pragma once

#include <ATen/ops/cat.h>

#include "channels.h"
#include "deciding.h"
#include "py_block.h"

namespace las {

inline std::vector<float> to_vector(const at::Tensor& tensor) {
  const at::Tensor values = tensor.contiguous();
  const float* first = values.const_data_ptr<float>();
  return {first, first + values.numel()};
}

// Weight (out, in) and bias (out) in double.
using LinearLayer = std::tuple<at::Tensor, at::Tensor>;

inline std::unique_ptr<Decider> make_decider(const std::vector<LinearLayer>& layers) {
  if (layers.empty()) return nullptr;
  std::vector<Linear> linear;
  for (const auto& [weight, bias] : layers) {
    const at::Tensor w = weight.t().contiguous(), b = bias.contiguous();
    const double *first = w.const_data_ptr<double>(), *start = b.const_data_ptr<double>();
    linear.push_back({static_cast<int>(w.size(0)), static_cast<int>(w.size(1)),
                      {first, first + w.numel()}, {start, start + b.numel()}});
  }
  return std::make_unique<Decider>(std::move(linear));
}

template <class T>
class PyChannelBlock {
 public:
  // skipped: what the channels of each convolution but the last carry where they are left out,
  // before their activation; empty for zeros. layers: what decides on channels, the last one's outputs
  // being the differences of its logits; empty if it is decided elsewhere. The others are a block's.
  PyChannelBlock(const std::vector<Conv>& convs, const std::vector<at::Tensor>& skipped,
                 const std::optional<GateConvs>& gate, const std::optional<Conv>& shortcut,
                 const std::optional<MaskerRow>& masker, const std::vector<LinearLayer>& layers,
                 int granularity, const std::string& isa, bool winograd) {
    const Kernels<T>* kernels = find_kernels<T>(isa);
    const Kernels<float>* exact = find_kernels<float>(std::is_same_v<T, float> ? isa : "");
    TORCH_CHECK_VALUE(kernels && exact, "isa: this CPU has no '", isa, "'");
    std::vector<LooseConv<T>> loose;
    std::unique_ptr<LooseConv<T>> by_winograd;
    std::vector<float> constants;  // of the convolution before
    for (size_t i = 0; i < convs.size(); i++) {
      const ConvShape shape = shape_of(convs[i]);
      std::vector<float> own;
      if (i < skipped.size()) own = to_vector(skipped[i]);
      const std::vector<float> carried = shape.groups > 1 ? std::vector<float>() : constants;
      const at::Tensor weight = std::get<0>(convs[i]).contiguous();
      const at::Tensor bias = std::get<1>(convs[i]).contiguous();
      const float *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
      loose.emplace_back(shape, w, b, carried, own, Algorithm::direct);
      const bool middle = convs.size() == 3 && i == 1 && !gate && winograd;
      if (middle && is_plain(shape) && kernels->winograd_inputs) {
        by_winograd =
            std::make_unique<LooseConv<T>>(shape, w, b, carried, own, Algorithm::winograd);
      }
      constants = std::move(own);
      for (float& constant : constants) constant = std::max(constant, 0.f);
    }
    std::unique_ptr<LooseGate> scale;
    if (gate) {
      const auto& [squeeze, excite] = *gate;
      const ConvShape shape = shape_of(squeeze);
      scale.reset(new LooseGate{shape.in_channels, shape.out_channels,
                                to_vector(std::get<0>(squeeze)), to_vector(std::get<1>(squeeze)),
                                to_vector(std::get<0>(excite)), to_vector(std::get<1>(excite))});
    }
    std::shared_ptr<const PackedConv<T>> side;
    if (shortcut) side = std::make_shared<PackedConv<T>>(pack(*shortcut, *kernels));
    block_ = std::make_unique<ChannelBlock<T>>(std::move(loose), std::move(by_winograd),
                                               std::move(scale), std::move(side),
                                               make_masker(masker), granularity, *kernels, *exact);
    decider_ = make_decider(layers);
  }

  // The output, the masks of patches, and which groups (N, K) were computed. groups: (N, K), computed
  // where not 0; none to decide. The others are those of PyBlock::run. Image by image.
  std::tuple<at::Tensor, std::optional<at::Tensor>, at::Tensor> run(
      const at::Tensor& x, const std::optional<at::Tensor>& groups,
      const std::optional<at::Tensor>& identity, const std::optional<at::Tensor>& decided,
      bool in_place) const {
    TORCH_CHECK_VALUE(x.dim() == 4 && x.size(0) > 0, "x: got ", x.sizes(), ", give images");
    TORCH_CHECK_VALUE(groups || decider_, "groups: nothing decides on channels; give them");
    if (x.size(0) == 1) return run_image(x, groups, identity, decided, in_place);
    const auto of = [](const std::optional<at::Tensor>& some, int64_t image) {
      return some ? std::optional<at::Tensor>(some->narrow(0, image, 1)) : std::nullopt;
    };
    std::vector<at::Tensor> outs, masks, found;
    for (int64_t i = 0; i < x.size(0); i++) {
      auto [out, mask, computed] = run_image(x.narrow(0, i, 1), of(groups, i), of(identity, i),
                                             of(decided, i), in_place);
      outs.push_back(std::move(out));
      if (mask) masks.push_back(std::move(*mask));
      found.push_back(std::move(computed));
    }
    std::optional<at::Tensor> mask;
    if (!masks.empty()) mask = at::cat(masks);
    const at::Tensor out = in_place ? x : identity ? *identity : at::cat(outs);
    return {out, std::move(mask), at::cat(found)};
  }

  // Whether its input, if nobody else needs it, may become its output.
  bool may_write_over() const { return block_->may_write_over(); }
  const char* isa() const { return block_->kernels().isa; }

 private:
  std::tuple<at::Tensor, std::optional<at::Tensor>, at::Tensor> run_image(
      const at::Tensor& x, const std::optional<at::Tensor>& groups,
      const std::optional<at::Tensor>& identity, const std::optional<at::Tensor>& decided,
      bool in_place) const {
    // What is replayed is decided all the same, at its real cost.
    const at::Tensor own = decider_ ? decide(x) : at::Tensor();
    const at::Tensor mask = groups ? groups->contiguous() : own;
    const int channels = block_->channels(), count = static_cast<int>(mask.numel());
    TORCH_CHECK_VALUE(mask.dim() == 2 && mask.size(0) == 1 && count && channels % count == 0,
                      "groups: got ", mask.sizes(), " for ", channels, " channels");
    const float* on = mask.const_data_ptr<float>();
    std::vector<float> spread(channels);
    for (int i = 0; i < channels; i++) spread[i] = on[i / (channels / count)];
    auto block = block_->narrow(spread.data(), x.size(2), x.size(3), free_threads());
    block->dilated_rate = dilated_rate_.load();
    PyBlock<T> narrow(std::move(block));
    auto [out, patches] = narrow.run(x, identity, decided, in_place);
    dilated_rate_ = narrow.dilated_rate();
    return {std::move(out), std::move(patches), mask};
  }

  static bool is_plain(const ConvShape& shape) {
    return shape.kernel == 3 && shape.stride == 1 && shape.dilation == 1 && shape.groups == 1;
  }

  at::Tensor decide(const at::Tensor& x) const {
    TORCH_CHECK_VALUE(x.is_contiguous(at::MemoryFormat::ChannelsLast), "x: must be channels-last");
    using Element = typename PyBlock<T>::Element;
    at::Tensor mask = at::empty({1, decider_->groups()}, x.options().dtype(at::kFloat));
    decider_->decide(reinterpret_cast<const T*>(x.const_data_ptr<Element>()),
                     static_cast<int>(x.size(2) * x.size(3)), mask.mutable_data_ptr<float>());
    return mask;
  }

  std::unique_ptr<ChannelBlock<T>> block_;
  std::unique_ptr<Decider> decider_;
  mutable std::atomic<float> dilated_rate_{1.f};  // of the last image, the prediction for the next
};

}  // namespace las
