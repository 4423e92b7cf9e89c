// Blocks whose features are bytes, as Python holds them; see int8_kernels.h.
#pragma once

#include <tuple>

#include "py_block.h"

namespace las {

// Whole weights (out, in / groups, k, k) and bias (out), and scales (out), all in float, then stride,
// dilation and groups: round((weights * x + bias) * scales) is the output, see Rescale.
using ByteConv = std::tuple<at::Tensor, at::Tensor, at::Tensor, int, int, int>;
// A shortcut's convolution with the scales of the block's output; by how much larger its own step is,
// and what stands for zero in it.
using ByteShortcut = std::tuple<ByteConv, float, int>;

inline PackedConv<uint8_t> pack_bytes(const ByteConv& conv, const Kernels<uint8_t>& kernels) {
  const auto& [weight, bias, scales, stride, dilation, groups] = conv;
  const at::Tensor s = scales.contiguous();
  PackedConv<uint8_t> packed = pack<uint8_t>({weight, bias, stride, dilation, groups}, kernels);
  packed.set_scales(s.const_data_ptr<float>());
  return packed;
}

inline std::shared_ptr<PyBlock<uint8_t>> make_byte_block(
    const std::vector<ByteConv>& convs, const std::optional<ByteShortcut>& shortcut,
    const std::optional<MaskerRow>& masker, int granularity, const std::string& isa) {
  const Kernels<uint8_t>* kernels = find_kernels<uint8_t>(isa);
  TORCH_CHECK_VALUE(kernels, "isa: this CPU has no '", isa, "'");
  std::vector<PackedConv<uint8_t>> packed;
  for (const ByteConv& conv : convs) packed.push_back(pack_bytes(conv, *kernels));
  std::unique_ptr<PackedConv<uint8_t>> side;
  if (shortcut) side = std::make_unique<PackedConv<uint8_t>>(pack_bytes(std::get<0>(*shortcut), *kernels));
  std::vector<Activation> acts(convs.size());
  auto block = std::make_unique<Block<uint8_t>>(std::move(packed), std::move(acts), nullptr, nullptr,
                                                std::move(side), make_masker(masker), granularity,
                                                *kernels);
  if (shortcut) {
    const auto& [conv, step, zero] = *shortcut;
    block->to_shortcut = {1 / step, zero};
    block->with_shortcut = {1, 0, step, zero};
  }
  return std::make_shared<PyBlock<uint8_t>>(std::move(block));
}

// Blocks that follow each other, between features in single precision.
class PyByteChain {
 public:
  using Blocks = std::vector<std::shared_ptr<PyBlock<uint8_t>>>;
  using Masks = std::vector<std::optional<at::Tensor>>;

  // step, out_step: what one unit of the bytes of the input and of the output stands for.
  PyByteChain(Blocks blocks, float step, float out_step)
      : blocks_(std::move(blocks)), step_(step), out_step_(out_step) {
    TORCH_CHECK_VALUE(!blocks_.empty(), "blocks: got none, give at least one");
  }

  // x: (N, C, H, W), channels-last, in float or in bytes. As PyChain::run.
  std::tuple<at::Tensor, Masks> run(const at::Tensor& input, const std::optional<at::Tensor>& identity,
                                    const Masks& decided) const {
    TORCH_CHECK_VALUE(decided.size() == blocks_.size(), "decided: got ", decided.size(),
                      " masks for ", blocks_.size(), " blocks");
    at::Tensor x = quantize(input);
    std::vector<at::Tensor> outs{x};  // the links point into them
    std::vector<Link<uint8_t>> links;
    Masks masks;
    for (size_t i = 0; i < blocks_.size(); i++) {
      const bool over = blocks_[i]->may_write_over() && !(i == 0 && identity);
      auto prepared = blocks_[i]->prepare(x, i == 0 ? identity : std::nullopt, decided[i], over);
      x = prepared.out;
      masks.push_back(std::move(prepared.mask));
      links.push_back(std::move(prepared.link));
      outs.push_back(x);
    }
    run_chain(links, free_threads());
    return {dequantize(x), std::move(masks)};
  }

  at::Tensor quantize(const at::Tensor& x) const {
    TORCH_CHECK_VALUE(x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast),
                      "x: must be channels-last");
    at::Tensor out = empty_features(x.sizes(), x.options().dtype(at::kByte),
                                    at::MemoryFormat::ChannelsLast);
    const float* from = x.const_data_ptr<float>();
    uint8_t* to = out.mutable_data_ptr<uint8_t>();
    const auto kernel = find_kernels<uint8_t>("")->bytes.quantize;
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t first, int64_t last) {
      kernel(from + first, last - first, 1 / step_, to + first);
    });
    return out;
  }

 private:
  static constexpr int64_t kGrain = 1 << 14;

  at::Tensor dequantize(const at::Tensor& x) const {
    at::Tensor out = empty_features(x.sizes(), x.options().dtype(at::kFloat),
                                    at::MemoryFormat::ChannelsLast);
    const uint8_t* from = x.const_data_ptr<uint8_t>();
    float* to = out.mutable_data_ptr<float>();
    const auto kernel = find_kernels<uint8_t>("")->bytes.dequantize;
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t first, int64_t last) {
      kernel(from + first, last - first, out_step_, to + first);
    });
    return out;
  }

  Blocks blocks_;
  float step_, out_step_;
};

}  // namespace las
