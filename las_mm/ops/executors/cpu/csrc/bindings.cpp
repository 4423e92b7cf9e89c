// What Python sees: a packed block and the instruction sets at hand.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/utils/pybind.h>

#include <string>
#include <type_traits>

#include "block.h"

namespace las {
namespace {

namespace py = pybind11;

std::vector<const Kernels<float>*> kernels_at_hand(float) {
  return {avx512_kernels(), avx2_kernels(), portable_kernels()};
}
std::vector<const Kernels<bfloat16>*> kernels_at_hand(bfloat16) { return {avx512_bf16_kernels()}; }

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

template <class T>
PackedConv<T> pack(const Conv& conv, const Kernels<T>& kernels) {
  const auto& [weight, bias, stride, dilation, groups] = conv;
  const ConvShape shape{static_cast<int>(weight.size(1)) * groups,
                        static_cast<int>(weight.size(0)),
                        static_cast<int>(weight.size(2)),
                        stride,
                        dilation,
                        groups};
  TORCH_CHECK_VALUE(shape.kernel <= kMaxKernel, "kernel_size: got ", shape.kernel,
                    ", larger than ", kMaxKernel);
  TORCH_CHECK_VALUE(shape.depth() % kernels.depth_step == 0, "channels: got ", shape.depth(),
                    " per group, not a multiple of ", kernels.depth_step);
  const at::Tensor w = weight.contiguous(), b = bias.contiguous();
  return {shape, w.const_data_ptr<float>(), b.const_data_ptr<float>(), kernels};
}

template <class T>
class PyBlock {
 public:
  using Element = std::conditional_t<std::is_same_v<T, float>, float, at::BFloat16>;

  PyBlock(const std::vector<Conv>& convs, const std::optional<Conv>& shortcut,
          const std::optional<MaskerRow>& masker, int granularity, const std::string& isa) {
    const Kernels<T>* kernels = find_kernels<T>(isa);
    TORCH_CHECK_VALUE(kernels, "isa: this CPU has no '", isa, "'");
    std::vector<PackedConv<T>> packed;
    for (const Conv& conv : convs) packed.push_back(pack(conv, *kernels));
    std::unique_ptr<PackedConv<T>> side;
    if (shortcut) side = std::make_unique<PackedConv<T>>(pack(*shortcut, *kernels));
    std::unique_ptr<Masker> row;
    if (masker) {
      const at::Tensor weights = std::get<0>(*masker).contiguous();
      const double* first = weights.const_data_ptr<double>();
      row = std::make_unique<Masker>(std::vector<double>(first, first + weights.numel()),
                                     std::get<1>(*masker));
    }
    block_ = std::make_unique<Block<T>>(std::move(packed), std::move(side), std::move(row),
                                        granularity, *kernels);
  }

  // x: (N, C, H, W), channels-last. identity: None for x itself or the native shortcut, else a
  // channels-last tensor that becomes the output. Returns the output and the mask, None if static.
  std::tuple<at::Tensor, std::optional<at::Tensor>> run(
      const at::Tensor& x, const std::optional<at::Tensor>& identity,
      const std::optional<at::Tensor>& decided, bool in_place) const {
    check(x, block_->convs[0].shape().in_channels);
    const Geometry g = block_->geometry(x.size(0), x.size(2), x.size(3));
    const int64_t channels = block_->last().shape().out_channels;
    at::Tensor out = in_place ? x : identity ? *identity : at::Tensor();
    if (!out.defined()) {
      out = at::empty({g.n, channels, g.out_h, g.out_w}, x.options(), at::MemoryFormat::ChannelsLast);
    }
    check(out, channels);
    TORCH_CHECK_VALUE(out.size(0) == g.n && out.size(2) == g.out_h && out.size(3) == g.out_w,
                      "identity: got ", out.sizes(), " for an input of ", x.sizes());
    std::optional<at::Tensor> mask;
    const bool is_dynamic = block_->masker || decided;
    if (is_dynamic) mask = at::empty({g.n, 1, g.grid_h, g.grid_w}, x.options().dtype(at::kFloat));
    TORCH_CHECK_VALUE(!decided || (decided->is_contiguous() && decided->sizes() == mask->sizes()),
                      "mask: must be contiguous and of the size of the grid");
    const Identity kind = in_place              ? Identity::in_place
                          : identity            ? Identity::given
                          : block_->shortcut    ? Identity::convolved
                                                : Identity::copied;
    block_->run({reinterpret_cast<const T*>(x.const_data_ptr<Element>()), g.n, g.h, g.w, kind,
                 reinterpret_cast<T*>(out.mutable_data_ptr<Element>()),
                 decided ? decided->const_data_ptr<float>() : nullptr,
                 mask ? mask->mutable_data_ptr<float>() : nullptr, threads()});
    return {out, mask};
  }

  const char* isa() const { return block_->kernels.isa; }
  float dilated_rate() const { return block_->dilated_rate; }
  float fuse_above() const { return block_->fuse_above; }
  void set_fuse_above(float rate) { block_->fuse_above = rate; }
  size_t band_bytes() const { return block_->band_bytes; }
  void set_band_bytes(size_t bytes) { block_->band_bytes = std::max<size_t>(1, bytes); }

 private:
  static int threads() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

  static void check(const at::Tensor& feature, int64_t channels) {
    TORCH_CHECK_VALUE(feature.dim() == 4 && feature.size(1) == channels, "x: got ",
                      feature.sizes(), ", its size must be (N, ", channels, ", H, W)");
    TORCH_CHECK_VALUE(feature.is_contiguous(at::MemoryFormat::ChannelsLast),
                      "x: must be channels-last");
  }

  std::unique_ptr<Block<T>> block_;
};

template <class T>
void define(py::module& module, const char* name) {
  using namespace py::literals;
  using Self = PyBlock<T>;
  py::class_<Self>(module, name)
      .def(py::init<const std::vector<Conv>&, const std::optional<Conv>&,
                    const std::optional<MaskerRow>&, int, const std::string&>(),
           "convs"_a, "shortcut"_a, "masker"_a, "granularity"_a, "isa"_a = "",
           py::call_guard<py::gil_scoped_release>())
      .def("run", &Self::run, "x"_a, "identity"_a = std::nullopt, "decided"_a = std::nullopt,
           "in_place"_a = false, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("isa", &Self::isa)
      .def_property_readonly("dilated_rate", &Self::dilated_rate)
      .def_property("fuse_above", &Self::fuse_above, &Self::set_fuse_above)
      .def_property("band_bytes", &Self::band_bytes, &Self::set_band_bytes);
}

}  // namespace
}  // namespace las

#define LAS_STRING_(x) #x
#define LAS_STRING(x) LAS_STRING_(x)

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  las::define<float>(module, "Float32Block");
  las::define<las::bfloat16>(module, "BFloat16Block");
  module.attr("build_key") = LAS_STRING(LAS_BUILD_KEY);
  module.def("float32_isas", &las::isas<float>);
  module.def("bfloat16_isas", &las::isas<las::bfloat16>);
}
