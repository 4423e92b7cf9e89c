// A packed block as Python holds it: tensors in, tensors out.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>

#include "chain.h"
#include "features.h"

namespace las {

inline std::vector<const Kernels<float>*> kernels_at_hand(float) {
  return {avx512_kernels(), avx2_kernels(), portable_kernels()};
}
inline std::vector<const Kernels<bfloat16>*> kernels_at_hand(bfloat16) {
  return {avx512_bf16_kernels()};
}

inline std::vector<const Kernels<uint8_t>*> kernels_at_hand(uint8_t) {
  return {avx512_vnni_int8_kernels(), avxvnni_int8_kernels(), avx2_int8_kernels(),
          portable_int8_kernels()};
}

// The named kernels, or the best ones if the name is empty; null if this CPU has not got them.
template <class T>
const Kernels<T>* find_kernels(const std::string& isa) {
  for (const Kernels<T>* kernels : kernels_at_hand(T{})) {
    if (kernels && (isa.empty() || isa == kernels->isa)) return kernels;
  }
  return nullptr;
}

template <class T>
std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Kernels<T>* kernels : kernels_at_hand(T{})) {
    if (kernels) names.push_back(kernels->isa);
  }
  return names;
}

// Folded weight (out, in / groups, k, k) and bias (out) in float, stride, dilation, groups.
using Conv = std::tuple<at::Tensor, at::Tensor, int, int, int>;
// Difference row (in) in double and its bias.
using MaskerRow = std::tuple<at::Tensor, double>;
// The 1×1 convolutions of squeeze-and-excitation.
using GateConvs = std::tuple<Conv, Conv>;

inline std::shared_ptr<const Masker> make_masker(const std::optional<MaskerRow>& masker) {
  if (!masker) return nullptr;
  const at::Tensor weights = std::get<0>(*masker).contiguous();
  const double* first = weights.const_data_ptr<double>();
  return std::make_shared<Masker>(std::vector<double>(first, first + weights.numel()),
                                  std::get<1>(*masker));
}

inline ConvShape shape_of(const Conv& conv) {
  const auto& [weight, bias, stride, dilation, groups] = conv;
  return {static_cast<int>(weight.size(1)) * groups,
          static_cast<int>(weight.size(0)),
          static_cast<int>(weight.size(2)),
          stride,
          dilation,
          groups};
}

template <class T>
PackedConv<T> pack(const Conv& conv, const Kernels<T>& kernels,
                   Algorithm algorithm = Algorithm::direct) {
  const ConvShape shape = shape_of(conv);
  TORCH_CHECK_VALUE(shape.kernel <= kMaxKernel, "kernel_size: got ", shape.kernel,
                    ", larger than ", kMaxKernel);
  const bool depthwise = algorithm == Algorithm::depthwise;
  TORCH_CHECK_VALUE(depthwise || shape.depth() % kernels.depth_step == 0, "channels: got ", shape.depth(),
                    " per group, not a multiple of ", kernels.depth_step);
  const at::Tensor w = std::get<0>(conv).contiguous(), b = std::get<1>(conv).contiguous();
  return {shape, w.const_data_ptr<float>(), b.const_data_ptr<float>(), kernels, algorithm};
}

// limit: where an activation ends, none without one.
inline Activation activation_of(const std::optional<float>& limit) {
  return {limit.has_value(), limit.value_or(0.f)};
}

// What may go into a convolution of so many channels.
inline void check_feature(const at::Tensor& feature, int64_t channels) {
  TORCH_CHECK_VALUE(feature.dim() == 4 && feature.size(1) == channels, "x: got ", feature.sizes(),
                    ", its size must be (N, ", channels, ", H, W)");
  TORCH_CHECK_VALUE(feature.is_contiguous(at::MemoryFormat::ChannelsLast),
                    "x: must be channels-last");
  TORCH_CHECK_VALUE(feature.size(2) < kMostPixels && feature.size(3) < kMostPixels, "x: got ",
                    feature.sizes(), ", its height and width must be below ", kMostPixels);
}

inline int free_threads() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

template <class T>
class PyBlock {
 public:
  using Element = std::conditional_t<std::is_same_v<T, bfloat16>, at::BFloat16, T>;

  PyBlock(const std::vector<Conv>& convs, const std::optional<GateConvs>& gate,
          const std::optional<Conv>& shortcut, const std::optional<MaskerRow>& masker,
          int granularity, const std::string& isa, bool winograd,
          const std::vector<std::optional<float>>& limits, bool adds)
      : adds_(adds) {
    TORCH_CHECK_VALUE(limits.size() == convs.size(), "limits: got ", limits.size(), " for ",
                      convs.size(), " convolutions");
    TORCH_CHECK_VALUE(adds || !(masker || shortcut),
                      "adds: a block without a sum has neither masker nor shortcut");
    std::vector<Activation> acts;
    for (const auto& limit : limits) acts.push_back(activation_of(limit));
    const Kernels<T>* kernels = find_kernels<T>(isa);
    TORCH_CHECK_VALUE(kernels, "isa: this CPU has no '", isa, "'");
    std::vector<PackedConv<T>> packed;
    std::unique_ptr<PackedConv<T>> direct, side;
    for (const Conv& conv : convs) {
      const bool is_middle = convs.size() == 3 && packed.size() == 1 && !gate;
      const Activation& act = acts[packed.size()];
      const bool rectified = act.on && act.limit == Activation().limit;
      const bool by_winograd =
          winograd && is_middle && rectified && suits_winograd(shape_of(conv), *kernels);
      const bool is_last = packed.size() + 1 == convs.size();  // to which the identity is added
      const Algorithm others = shape_of(conv).is_depthwise() && !is_last ? Algorithm::depthwise
                                                                         : Algorithm::direct;
      packed.push_back(pack(conv, *kernels, by_winograd ? Algorithm::winograd : others));
      if (by_winograd && is_needed_directly(shape_of(conv), granularity)) {
        direct = std::make_unique<PackedConv<T>>(pack(conv, *kernels));
      }
    }
    std::unique_ptr<Gate> scale;
    if (gate) {
      const Kernels<float>* exact = find_kernels<float>(std::is_same_v<T, float> ? isa : "");
      const auto& [squeeze, excite] = *gate;
      scale.reset(new Gate{pack(squeeze, *exact), pack(excite, *exact), *exact});
    }
    if (shortcut) side = std::make_unique<PackedConv<T>>(pack(*shortcut, *kernels));
    block_ = std::make_unique<Block<T>>(std::move(packed), std::move(acts), std::move(direct), std::move(scale),
                                        std::move(side), make_masker(masker), granularity, *kernels);
  }

  explicit PyBlock(std::unique_ptr<Block<T>> block) : block_(std::move(block)) {}

  // One call with the tensors that it writes to. x: (N, C, H, W), channels-last. identity: none for
  // x itself or the native shortcut, else a channels-last tensor that becomes the output.
  // decided: (N, 1, h, w), taken instead of the masker's decision; outlives the call.
  struct Prepared {
    at::Tensor out;
    std::optional<at::Tensor> mask;  // none if the block is static
    Link<T> link;
  };

  Prepared prepare(const at::Tensor& x, const std::optional<at::Tensor>& identity,
                   const std::optional<at::Tensor>& decided, bool in_place) const {
    check_feature(x, block_->convs[0].shape().in_channels);
    const Geometry g = block_->geometry(x.size(0), x.size(2), x.size(3));
    const int64_t channels = block_->last().shape().out_channels;
    at::Tensor out = in_place ? x : identity ? *identity : at::Tensor();
    if (!out.defined()) {
      out = empty_features({g.n, channels, g.out_h, g.out_w}, x.options(),
                           at::MemoryFormat::ChannelsLast);
    }
    check_feature(out, channels);
    TORCH_CHECK_VALUE(out.size(0) == g.n && out.size(2) == g.out_h && out.size(3) == g.out_w,
                      "identity: got ", out.sizes(), " for an input of ", x.sizes());
    TORCH_CHECK_VALUE(adds_ || !(in_place || identity || decided),
                      "x: a block without a sum takes neither an identity nor a mask");
    std::optional<at::Tensor> mask;
    const bool is_dynamic = block_->masker || decided;
    if (is_dynamic) mask = at::empty({g.n, 1, g.grid_h, g.grid_w}, x.options().dtype(at::kFloat));
    TORCH_CHECK_VALUE(!decided || (decided->is_contiguous() && decided->sizes() == mask->sizes()),
                      "mask: must be contiguous and of the size of the grid");
    Call<T> call;
    call.x = reinterpret_cast<const T*>(x.const_data_ptr<Element>());
    call.n = g.n;
    call.h = g.h;
    call.w = g.w;
    call.identity = !adds_               ? Identity::none
                    : in_place           ? Identity::in_place
                    : identity           ? Identity::given
                    : block_->shortcut   ? Identity::convolved
                                         : Identity::copied;
    call.out = reinterpret_cast<T*>(out.mutable_data_ptr<Element>());
    call.decided = decided ? decided->const_data_ptr<float>() : nullptr;
    call.mask = mask ? mask->mutable_data_ptr<float>() : nullptr;
    return {out, mask, {block_.get(), std::move(call)}};
  }

  // The output and the mask.
  std::tuple<at::Tensor, std::optional<at::Tensor>> run(
      const at::Tensor& x, const std::optional<at::Tensor>& identity,
      const std::optional<at::Tensor>& decided, bool in_place) const {
    Prepared prepared = prepare(x, identity, decided, in_place);
    std::vector<Link<T>> links{std::move(prepared.link)};
    run_chain(links, free_threads());
    return {std::move(prepared.out), std::move(prepared.mask)};
  }

  // Whether its input, if nobody else needs it, may become its output.
  bool may_write_over() const { return adds_ && !block_->shortcut; }
  const char* isa() const { return block_->kernels.isa; }
  float dilated_rate() const { return block_->dilated_rate; }
  float fuse_above() const { return block_->fuse_above; }
  void set_fuse_above(float rate) { block_->fuse_above = rate; }
  size_t band_bytes() const { return block_->band_bytes; }
  void set_band_bytes(size_t bytes) { block_->band_bytes = std::max<size_t>(1, bytes); }

 private:
  std::unique_ptr<Block<T>> block_;
  bool adds_ = true;  // the branch to an identity
};

}  // namespace las
