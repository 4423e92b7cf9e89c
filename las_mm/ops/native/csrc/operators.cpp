#include "operators.h"

#include <torch/library.h>

namespace las {
namespace {

Conv conv_of(const ConvSpec& spec) {
  const auto& [weight, bias, stride, dilation, groups] = spec;
  return {weight, bias, static_cast<int>(stride), static_cast<int>(dilation),
          static_cast<int>(groups)};
}

std::vector<Conv> convs_of(const std::vector<ConvSpec>& specs) {
  std::vector<Conv> convs;
  for (const ConvSpec& spec : specs) convs.push_back(conv_of(spec));
  return convs;
}

std::optional<Conv> conv_in(const std::vector<ConvSpec>& specs) {
  return specs.empty() ? std::nullopt : std::optional<Conv>(conv_of(specs.front()));
}

int64_t stride_of(const BlockSpec& spec) {
  int64_t stride = 1;
  for (const ConvSpec& conv : std::get<0>(spec)) stride *= std::get<2>(conv);
  return stride;
}

void check_type(const at::Tensor& x, bool low) {
  const at::ScalarType type = low ? at::kBFloat16 : at::kFloat;
  TORCH_CHECK_VALUE(x.device().is_cpu() && x.scalar_type() == type, "x: got ", x.scalar_type(),
                    " on ", x.device(), ", the network was packed for ", type, " on the CPU");
}

template <class T>
typename PyChain<T>::Member pack_block(const BlockSpec& spec) {
  const auto& [specs, ends, skipped, gates, sides, row, layers, grain, adds, channels] = spec;
  const std::vector<Conv> convs = convs_of(specs);
  std::optional<GateConvs> gate;
  if (!gates.empty()) gate = {conv_of(gates.at(0)), conv_of(gates.at(1))};
  std::optional<MaskerRow> masker;
  if (!row.empty()) masker = {row.at(0), row.at(1).item<double>()};
  const std::optional<Conv> side = conv_in(sides);
  const int granularity = static_cast<int>(grain);
  if (channels) {
    std::vector<LinearLayer> linear;
    for (size_t i = 0; i + 1 < layers.size(); i += 2) linear.push_back({layers[i], layers[i + 1]});
    return std::make_shared<PyChannelBlock<T>>(convs, skipped, gate, side, masker, linear,
                                               granularity, "", true);
  }
  std::vector<std::optional<float>> limits;
  for (double end : ends) limits.push_back(end < 0 ? std::nullopt : std::optional<float>(end));
  return std::make_shared<PyBlock<T>>(convs, gate, side, masker, granularity, "", true, limits, adds);
}

}  // namespace

ChainObject::ChainObject(std::vector<BlockSpec> blocks, bool low)
    : specs_(std::move(blocks)), low_(low) {
  if (low) {
    low_chain_ = pack<bfloat16>();
  } else {
    exact_chain_ = pack<float>();
  }
}

template <class T>
std::unique_ptr<PyChain<T>> ChainObject::pack() const {
  std::vector<typename PyChain<T>::Member> members;
  for (const BlockSpec& spec : specs_) members.push_back(pack_block<T>(spec));
  return std::make_unique<PyChain<T>>(std::move(members));
}

std::vector<std::vector<int64_t>> ChainObject::outline() const {
  std::vector<std::vector<int64_t>> blocks;
  for (const BlockSpec& spec : specs_) {
    const auto& [convs, ends, skipped, gates, sides, row, layers, grain, adds, channels] = spec;
    const int64_t out = std::get<0>(convs.back()).size(0);
    const int64_t groups = layers.empty() ? 0 : layers.back().size(0);
    blocks.push_back({stride_of(spec), out, row.empty() ? 0 : grain, channels ? groups : 0});
  }
  return blocks;
}

std::vector<at::Tensor> ChainObject::run(const at::Tensor& x,
                                         const std::optional<at::Tensor>& identity) const {
  check_type(x, low_);
  const std::vector<std::optional<at::Tensor>> own(specs_.size());  // each block decides
  std::optional<at::Tensor> end;  // which becomes the output, and the caller's stays as it is
  if (identity) end = identity->clone(at::MemoryFormat::ChannelsLast);
  const at::Tensor feature = x.contiguous(at::MemoryFormat::ChannelsLast);
  const auto run = [&](const auto& chain) { return chain.run(feature, end, own, own, false); };
  auto [out, masks, found] = low_ ? run(*low_chain_) : run(*exact_chain_);
  std::vector<at::Tensor> outs{out};
  for (size_t i = 0; i < specs_.size(); i++) {
    if (masks[i]) outs.push_back(*masks[i]);
    if (found[i]) outs.push_back(*found[i]);
  }
  return outs;
}

StemObject::StemObject(ConvSpec conv, std::vector<int64_t> pool, double limit, bool low)
    : conv_(std::move(conv)), pool_(std::move(pool)), limit_(limit), low_(low) {
  const Conv first = conv_of(conv_);
  const float end = static_cast<float>(limit);
  if (pool_.empty()) {
    if (low) low_conv_ = std::make_unique<PyPlainConv<bfloat16>>(first, end, "");
    else exact_conv_ = std::make_unique<PyPlainConv<float>>(first, end, "");
    return;
  }
  TORCH_CHECK_VALUE(pool_.size() == 3, "pool: got ", pool_.size(), " numbers, give three or none");
  const std::tuple<int, int, int> window(pool_[0], pool_[1], pool_[2]);
  if (low) low_stem_ = std::make_unique<PyStem<bfloat16>>(first, window, "", end);
  else exact_stem_ = std::make_unique<PyStem<float>>(first, window, "", end);
}

std::vector<int64_t> StemObject::outline() const {
  const auto& [weight, bias, stride, dilation, groups] = conv_;
  const int64_t kernel = weight.size(2), padding = dilation * (kernel / 2);
  std::vector<int64_t> sizes{weight.size(0), dilation * (kernel - 1) + 1, stride, padding};
  if (pool_.empty()) sizes.insert(sizes.end(), {1, 1, 0});
  sizes.insert(sizes.end(), pool_.begin(), pool_.end());
  return sizes;
}

at::Tensor StemObject::run(const at::Tensor& x) const {
  check_type(x, low_);
  if (exact_stem_) return exact_stem_->run(x);
  if (low_stem_) return low_stem_->run(x);
  return exact_conv_ ? exact_conv_->run(x) : low_conv_->run(x);
}

namespace {

std::vector<at::Tensor> chain(const c10::intrusive_ptr<ChainObject>& packed, const at::Tensor& x,
                              const std::optional<at::Tensor>& identity) {
  return packed->run(x, identity);
}

at::Tensor stem(const c10::intrusive_ptr<StemObject>& packed, const at::Tensor& x) {
  return packed->run(x);
}

// To be told apart by what they were made of, which a compiler never needs.
template <class Object>
std::tuple<std::tuple<std::string, decltype(std::declval<Object>().outline())>> flatten(
    const c10::intrusive_ptr<Object>& self) {
  return {{"outline", self->outline()}};
}

}  // namespace
}  // namespace las

// Each class is made of its state, and each operator takes one object first. Another kind of packed
// part is another class here, another operator, and its shapes in las_mm/ops/native/operators.py.
TORCH_LIBRARY(las_mm, library) {
  using las::ChainObject, las::StemObject;
  library.class_<ChainObject>("Chain")
      .def(torch::init<std::vector<las::BlockSpec>, bool>())
      .def("outline", &ChainObject::outline)
      .def("__obj_flatten__", &las::flatten<ChainObject>)
      .def_pickle([](const c10::intrusive_ptr<ChainObject>& self) { return self->state(); },
                  [](ChainObject::State state) {
                    auto& [blocks, low] = state;
                    return c10::make_intrusive<ChainObject>(std::move(blocks), low);
                  });
  library.class_<StemObject>("Stem")
      .def(torch::init<las::ConvSpec, std::vector<int64_t>, double, bool>())
      .def("outline", &StemObject::outline)
      .def("__obj_flatten__", &las::flatten<StemObject>)
      .def_pickle([](const c10::intrusive_ptr<StemObject>& self) { return self->state(); },
                  [](StemObject::State state) {
                    auto& [conv, pool, limit, low] = state;
                    return c10::make_intrusive<StemObject>(std::move(conv), std::move(pool), limit,
                                                           low);
                  });
  library.def(
      "chain(__torch__.torch.classes.las_mm.Chain packed, Tensor x, Tensor? identity) "
      "-> Tensor[]");
  library.def("stem(__torch__.torch.classes.las_mm.Stem packed, Tensor x) -> Tensor");
}

TORCH_LIBRARY_IMPL(las_mm, CPU, library) {
  library.impl("chain", &las::chain);
  library.impl("stem", &las::stem);
}
