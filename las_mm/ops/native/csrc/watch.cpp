#include "watch.h"

#include <torch/csrc/autograd/python_variable.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

namespace las {
namespace {

constexpr size_t kAhead = 16;  // objects that are fetched together

void fetch(const void* address) { __builtin_prefetch(address); }

// Changes with every change of a dict; 0 where Python does not count them.
uint64_t version_of(const pybind11::dict& dict) {
#if PY_VERSION_HEX < 0x030C0000
  return reinterpret_cast<const PyDictObject*>(dict.ptr())->ma_version_tag;
#else
  return 0;
#endif
}

// Tensors made in inference mode count no versions.
uint32_t version_of(const at::TensorBase& tensor) {
  return tensor.is_inference()
             ? 0
             : tensor.unsafeGetTensorImpl()->version_counter().current_version();
}

// The element at an address, or its first eight bytes.
uint64_t element_at(const char* address, size_t size) {
  uint64_t element = 0;
  std::memcpy(&element, address, std::min(size, sizeof(element)));
  return element;
}

// Ask `is_unchanged` of all items, each fetched by `fetch_item` some time before.
template <class Items, class Fetch, class Test>
bool all_unchanged(Items& items, const Fetch& fetch_item, const Test& is_unchanged) {
  for (size_t i = 0; i < std::min(kAhead, items.size()); i++) fetch_item(items[i]);
  for (size_t i = 0; i < items.size(); i++) {
    if (i + kAhead < items.size()) fetch_item(items[i + kAhead]);
    if (!is_unchanged(items[i])) return false;
  }
  return true;
}

}  // namespace

Watch::Watch(const Slots& slots, const std::vector<pybind11::dict>& empty,
             const std::vector<pybind11::object>& objects)
    : empty_(empty) {
  std::unordered_map<PyObject*, size_t> places;
  for (const auto& [owner, key] : slots) {
    const auto [place, is_new] = places.emplace(owner.ptr(), dicts_.size());
    if (is_new) dicts_.push_back({owner, {}, 0});
    PyObject* value = PyDict_GetItem(owner.ptr(), key.ptr());
    const auto kept = pybind11::reinterpret_borrow<pybind11::object>(value);
    dicts_[place->second].slots.push_back({key, kept});
    if (value && THPVariable_Check(value)) tensors_.push_back(watch(THPVariable_Unpack(value)));
  }
  for (const pybind11::object& object : objects) objects_.emplace_back(object, Py_TYPE(object.ptr()));
}

Watch::Watched Watch::watch(const at::TensorBase& tensor) {
  Watched watched{&tensor, static_cast<const char*>(tensor.const_data_ptr()), version_of(tensor),
                  0, 0, {}};
  const int64_t count = tensor.numel(), size = tensor.element_size();
  if (!tensor.is_cpu() || count == 0 || !tensor.is_non_overlapping_and_dense()) return watched;
  const int64_t most = watched.samples.size(), step = (count + most - 1) / most;
  watched.step = step * size;
  for (int64_t index = 0; index < count; index += step) {
    watched.samples[watched.count++] = element_at(watched.data + index * size, size);
  }
  return watched;
}

bool Watch::unchanged() {
  const auto same_type = [](const auto& object) { return Py_TYPE(object.first.ptr()) == object.second; };
  const auto is_empty = [](const pybind11::dict& dict) { return PyDict_GET_SIZE(dict.ptr()) == 0; };
  const auto fetch_dict = [](const pybind11::dict& dict) { fetch(dict.ptr()); };
  return all_unchanged(objects_, [](const auto& object) { fetch(object.first.ptr()); }, same_type) &&
         all_unchanged(empty_, fetch_dict, is_empty) &&
         all_unchanged(dicts_, [](const Dict& dict) { fetch(dict.dict.ptr()); },
                       [](Dict& dict) { return is_unchanged(dict); }) &&
         are_tensors_unchanged();
}

bool Watch::is_unchanged(Dict& dict) {
  const uint64_t version = version_of(dict.dict);
  if (version != 0 && version == dict.version) return true;
  for (const Slot& slot : dict.slots) {
    if (PyDict_GetItem(dict.dict.ptr(), slot.key.ptr()) != slot.value.ptr()) return false;
  }
  dict.version = version;
  return true;
}

// What writes past the version counter (`.data`, NumPy, averaged weights) mostly writes all elements.
bool Watch::is_unchanged(const Watched& watched) {
  if (watched.tensor->const_data_ptr() != watched.data) return false;
  if (version_of(*watched.tensor) != watched.version) return false;
  const size_t size = watched.tensor->element_size();
  for (int i = 0; i < watched.count; i++) {
    if (element_at(watched.data + i * watched.step, size) != watched.samples[i]) return false;
  }
  return true;
}

// A tensor is several objects, one behind the other: some tensors at a time, their first objects are
// fetched, then the second ones.
bool Watch::are_tensors_unchanged() const {
  for (size_t first = 0; first < tensors_.size(); first += kAhead) {
    const size_t last = std::min(first + kAhead, tensors_.size());
    for (size_t i = first; i < last; i++) {
      const char* impl = reinterpret_cast<const char*>(tensors_[i].tensor->unsafeGetTensorImpl());
      for (size_t line = 0; line < sizeof(at::TensorImpl); line += 64) fetch(impl + line);
    }
    for (size_t i = first; i < last; i++) {
      const Watched& watched = tensors_[i];
      const at::TensorImpl* impl = watched.tensor->unsafeGetTensorImpl();
      if (impl->has_storage()) fetch(impl->unsafe_storage().unsafeGetStorageImpl());
      for (int s = 0; s < watched.count; s++) fetch(watched.data + s * watched.step);
    }
    for (size_t i = first; i < last; i++) {
      if (!is_unchanged(tensors_[i])) return false;
    }
  }
  return true;
}

}  // namespace las
