// What Python sees: packed blocks, chains of them, stems, and the instruction sets at hand.
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "layout.h"
#include "py_chain.h"
#include "py_int8.h"
#include "py_linear.h"
#include "py_plain_conv.h"
#include "py_stem.h"
#include "team.h"
#include "training.h"
#include "watch.h"

namespace las {
namespace {

namespace py = pybind11;
using namespace py::literals;

template <class T>
void define_block(py::module& module, const char* name) {
  using Self = PyBlock<T>;
  py::class_<Self, std::shared_ptr<Self>>(module, name)
      .def(py::init<const std::vector<Conv>&, const std::optional<GateConvs>&,
                    const std::optional<Conv>&, const std::optional<MaskerRow>&, int,
                    const std::string&, bool, const std::vector<std::optional<float>>&, bool>(),
           "convs"_a, "gate"_a, "shortcut"_a, "masker"_a, "granularity"_a, "isa"_a, "winograd"_a,
           "limits"_a, "adds"_a = true,
           py::call_guard<py::gil_scoped_release>())
      .def("run", &Self::run, "x"_a, "identity"_a = std::nullopt, "decided"_a = std::nullopt,
           "in_place"_a = false, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("isa", &Self::isa)
      .def_property_readonly("dilated_rate", &Self::dilated_rate)
      .def_property("fuse_above", &Self::fuse_above, &Self::set_fuse_above)
      .def_property("band_bytes", &Self::band_bytes, &Self::set_band_bytes);
}

template <class T>
void define_channel_block(py::module& module, const char* name) {
  using Self = PyChannelBlock<T>;
  py::class_<Self, std::shared_ptr<Self>>(module, name)
      .def(py::init<const std::vector<Conv>&, const std::vector<at::Tensor>&,
                    const std::optional<GateConvs>&, const std::optional<Conv>&,
                    const std::optional<MaskerRow>&, const std::vector<LinearLayer>&, int,
                    const std::string&, bool>(),
           "convs"_a, "skipped"_a, "gate"_a, "shortcut"_a, "masker"_a, "layers"_a, "granularity"_a,
           "isa"_a = "", "winograd"_a = true, py::call_guard<py::gil_scoped_release>())
      .def("run", &Self::run, "x"_a, "groups"_a = std::nullopt, "identity"_a = std::nullopt,
           "decided"_a = std::nullopt, "in_place"_a = false,
           py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("isa", &Self::isa);
}

template <class T>
void define_chain(py::module& module, const char* name) {
  using Self = PyChain<T>;
  py::class_<Self>(module, name)
      .def(py::init<std::vector<typename Self::Member>>(), "blocks"_a)
      .def("run", &Self::run, "x"_a, "identity"_a, "decided"_a, "groups"_a, "in_place"_a,
           py::call_guard<py::gil_scoped_release>());
}

template <class T>
void define_stem(py::module& module, const char* name) {
  using Self = PyStem<T>;
  py::class_<Self>(module, name)
      .def(py::init<const Conv&, const std::tuple<int, int, int>&, const std::string&, float>(),
           "conv"_a, "pool"_a, "isa"_a = "", "limit"_a = Activation().limit,
           py::call_guard<py::gil_scoped_release>())
      .def("run", &Self::run, "x"_a, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("isa", &Self::isa);
}

template <class T>
void define_plain_conv(py::module& module, const char* name) {
  using Self = PyPlainConv<T>;
  py::class_<Self>(module, name)
      .def(py::init<const Conv&, const std::optional<float>&, const std::string&>(), "conv"_a,
           "limit"_a, "isa"_a = "", py::call_guard<py::gil_scoped_release>())
      .def("run", &Self::run, "x"_a, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("isa", &Self::isa);
}

template <class T>
void define_linear(py::module& module, const char* name) {
  using Self = PyLinear<T>;
  py::class_<Self>(module, name)
      .def(py::init<const at::Tensor&, const at::Tensor&, const std::string&>(), "weight"_a,
           "bias"_a, "isa"_a = "", py::call_guard<py::gil_scoped_release>())
      .def("run", &Self::run, "x"_a, "out"_a, "adds"_a,
           py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("isa", &Self::isa);
}

void define_bytes(py::module& module) {
  using Self = PyBlock<uint8_t>;
  py::class_<Self, std::shared_ptr<Self>>(module, "Int8Block")
      .def(py::init(&make_byte_block), "convs"_a, "shortcut"_a, "masker"_a, "granularity"_a,
           "isa"_a = "", py::call_guard<py::gil_scoped_release>())
      .def("run", &Self::run, "x"_a, "identity"_a = std::nullopt, "decided"_a = std::nullopt,
           "in_place"_a = false, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("isa", &Self::isa)
      .def_property("fuse_above", &Self::fuse_above, &Self::set_fuse_above)
      .def_property("band_bytes", &Self::band_bytes, &Self::set_band_bytes);
  py::class_<PyByteChain>(module, "Int8Chain")
      .def(py::init<PyByteChain::Blocks, float, float>(), "blocks"_a, "step"_a, "out_step"_a)
      .def("run", &PyByteChain::run, "x"_a, "identity"_a, "decided"_a,
           py::call_guard<py::gil_scoped_release>())
      .def("quantize", &PyByteChain::quantize, "x"_a, py::call_guard<py::gil_scoped_release>());
  module.def("int8_isas", &isas<uint8_t>);
}

void define_training(py::module& module) {
  module.def("end_backward", &end_backward, "grad"_a, "x"_a, "weight"_a, "bias"_a, "pixels"_a,
             "out"_a, "mean"_a, "invstd"_a, "training"_a, "needs_x"_a, "isa"_a = "",
             py::call_guard<py::gil_scoped_release>());
  module.def("fork_forward", &fork_forward, "x"_a, "window"_a, "isa"_a = "",
             py::call_guard<py::gil_scoped_release>());
  module.def("fork_backward", &fork_backward, "of_branch"_a, "of_shortcut"_a, "of_pooled"_a,
             "window"_a, "isa"_a = "", py::call_guard<py::gil_scoped_release>());
}

}  // namespace
}  // namespace las

#define LAS_STRING_(x) #x
#define LAS_STRING(x) LAS_STRING_(x)

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  las::define_block<float>(module, "Float32Block");
  las::define_block<las::bfloat16>(module, "BFloat16Block");
  las::define_channel_block<float>(module, "Float32ChannelBlock");
  las::define_channel_block<las::bfloat16>(module, "BFloat16ChannelBlock");
  las::define_chain<float>(module, "Float32Chain");
  las::define_chain<las::bfloat16>(module, "BFloat16Chain");
  las::define_stem<float>(module, "Float32Stem");
  las::define_stem<las::bfloat16>(module, "BFloat16Stem");
  las::define_plain_conv<float>(module, "Float32Conv");
  las::define_plain_conv<las::bfloat16>(module, "BFloat16Conv");
  las::define_linear<float>(module, "Float32Linear");
  las::define_linear<las::bfloat16>(module, "BFloat16Linear");
  pybind11::class_<las::Watch>(module, "Watch")
      .def(pybind11::init<const las::Watch::Slots&, const std::vector<pybind11::dict>&,
                          const std::vector<pybind11::object>&>(),
           pybind11::arg("slots"), pybind11::arg("empty"), pybind11::arg("objects"))
      .def("unchanged", &las::Watch::unchanged);
  las::define_training(module);
  las::define_bytes(module);
  module.def("to_contiguous", &las::to_contiguous, pybind11::arg("x"), pybind11::arg("widen") = false,
             pybind11::call_guard<pybind11::gil_scoped_release>());
  las::survive_forks();
  module.attr("build_key") = LAS_STRING(LAS_BUILD_KEY);
  module.def("float32_isas", &las::isas<float>);
  module.def("bfloat16_isas", &las::isas<las::bfloat16>);
}
