#include "watch.h"

#include <torch/csrc/autograd/python_variable.h>

namespace las {
namespace {

// Tensors made in inference mode count no versions.
uint32_t version_of(const at::TensorBase& tensor) {
  return tensor.is_inference()
             ? 0
             : tensor.unsafeGetTensorImpl()->version_counter().current_version();
}

}  // namespace

Watch::Watch(const Slots& slots, const std::vector<pybind11::dict>& empty) : empty_(empty) {
  for (const auto& [owner, key] : slots) {
    Slot slot{owner, key, {}, nullptr, nullptr, 0};
    if (PyObject* value = PyDict_GetItem(owner.ptr(), key.ptr())) {
      slot.value = pybind11::reinterpret_borrow<pybind11::object>(value);
      if (THPVariable_Check(value)) {
        slot.tensor = &THPVariable_Unpack(value);
        slot.data = slot.tensor->const_data_ptr();
        slot.version = version_of(*slot.tensor);
      }
    }
    slots_.push_back(std::move(slot));
  }
}

bool Watch::unchanged() const {
  for (const Slot& slot : slots_) {
    if (PyDict_GetItem(slot.owner.ptr(), slot.key.ptr()) != slot.value.ptr()) return false;
    if (slot.tensor && (slot.tensor->const_data_ptr() != slot.data ||
                        version_of(*slot.tensor) != slot.version)) {
      return false;
    }
  }
  for (const pybind11::dict& dict : empty_) {
    if (PyDict_Size(dict.ptr()) != 0) return false;
  }
  return true;
}

}  // namespace las
