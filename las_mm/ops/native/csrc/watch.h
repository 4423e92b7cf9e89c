// Notices changes of the Python objects that something was made of.
#pragma once

#include <torch/csrc/utils/pybind.h>

#include <array>
#include <utility>
#include <vector>

namespace las {

// Asked before every inference about some thousand objects, which the features of the last one have
// driven out of the caches: all memory is fetched well before it is looked at. Holds the
// interpreter's lock.
class Watch {
 public:
  using Slots = std::vector<std::pair<pybind11::dict, pybind11::object>>;

  // slots: dicts and keys whose values, or their absence, must stay the same objects; tensors must
  // also stay where they are, in the same version and, as far as a sample tells, the same. empty:
  // dicts that must stay empty. objects: what must stay of the same type.
  Watch(const Slots& slots, const std::vector<pybind11::dict>& empty,
        const std::vector<pybind11::object>& objects);

  bool unchanged();

 private:
  struct Slot {
    pybind11::object key, value;  // value: null where there was none
  };

  struct Dict {
    pybind11::dict dict;
    std::vector<Slot> slots;
    uint64_t version = 0;  // in which the slots were looked at last
  };

  struct Watched {
    const at::TensorBase* tensor;  // of a slot's value, which keeps it alive
    const char* data;
    uint32_t version;
    int count;                  // of samples
    int64_t step;               // bytes from one to the next
    std::array<uint64_t, 8> samples;
  };

  void add(const pybind11::dict& owner, const pybind11::object& key);
  static Watched watch(const at::TensorBase& tensor);
  static bool is_unchanged(Dict& dict);
  static bool is_unchanged(const Watched& watched);
  bool are_tensors_unchanged() const;

  std::vector<Dict> dicts_;
  std::vector<Watched> tensors_;
  std::vector<pybind11::dict> empty_;
  std::vector<std::pair<pybind11::object, PyTypeObject*>> objects_;
};

}  // namespace las
