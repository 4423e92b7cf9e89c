#include "watch.h"

#include <torch/csrc/autograd/python_variable.h>

#include <cstring>

namespace las {
namespace {

constexpr int64_t kSamples = 8;  // elements of a tensor that are looked at

// Changes with the content of a tensor on the CPU, unless few of its elements do: what writes past
// the version counter (`.data`, NumPy, averaged weights) mostly writes all of them.
uint64_t digest_of(const at::TensorBase& tensor) {
  const int64_t count = tensor.numel();
  if (!tensor.is_cpu() || count == 0 || !tensor.is_non_overlapping_and_dense()) return 0;
  const size_t size = tensor.element_size();
  const char* data = static_cast<const char*>(tensor.const_data_ptr());
  const int64_t step = (count + kSamples - 1) / kSamples;
  uint64_t digest = 14695981039346656037u;
  for (int64_t index = 0; index < count; index += step) {
    uint64_t element = 0;
    std::memcpy(&element, data + index * size, std::min(size, sizeof(element)));
    digest = (digest ^ element) * 1099511628211u;
    digest ^= digest >> 29;
  }
  return digest;
}

// Tensors made in inference mode count no versions.
uint32_t version_of(const at::TensorBase& tensor) {
  return tensor.is_inference()
             ? 0
             : tensor.unsafeGetTensorImpl()->version_counter().current_version();
}

}  // namespace

Watch::Watch(const Slots& slots, const std::vector<pybind11::dict>& empty) : empty_(empty) {
  for (const auto& [owner, key] : slots) {
    Slot slot{owner, key, {}, nullptr, nullptr, 0, 0};
    if (PyObject* value = PyDict_GetItem(owner.ptr(), key.ptr())) {
      slot.value = pybind11::reinterpret_borrow<pybind11::object>(value);
      if (THPVariable_Check(value)) {
        slot.tensor = &THPVariable_Unpack(value);
        slot.data = slot.tensor->const_data_ptr();
        slot.version = version_of(*slot.tensor);
        slot.digest = digest_of(*slot.tensor);
      }
    }
    slots_.push_back(std::move(slot));
  }
}

bool Watch::unchanged() const {
  for (const Slot& slot : slots_) {
    if (PyDict_GetItem(slot.owner.ptr(), slot.key.ptr()) != slot.value.ptr()) return false;
    if (slot.tensor && (slot.tensor->const_data_ptr() != slot.data ||
                        version_of(*slot.tensor) != slot.version ||
                        digest_of(*slot.tensor) != slot.digest)) {
      return false;
    }
  }
  for (const pybind11::dict& dict : empty_) {
    if (PyDict_Size(dict.ptr()) != 0) return false;
  }
  return true;
}

}  // namespace las
