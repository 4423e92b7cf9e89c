// Notices changes of the Python objects that something was made of.
#pragma once

#include <torch/csrc/utils/pybind.h>

#include <utility>
#include <vector>

namespace las {

// Asked before every inference about a thousand slots: quick, and holding the interpreter's lock.
class Watch {
 public:
  using Slots = std::vector<std::pair<pybind11::dict, pybind11::object>>;

  // slots: dicts and keys whose values, or their absence, must stay the same objects; tensors must
  // also stay where they are, in the same version and, as far as a sample tells, the same. empty: dicts that must stay empty.
  Watch(const Slots& slots, const std::vector<pybind11::dict>& empty);

  bool unchanged() const;

 private:
  struct Slot {
    pybind11::dict owner;
    pybind11::object key, value;  // value: null where there was none
    const at::TensorBase* tensor;  // of `value`, which keeps it alive; null if it is none
    const void* data;
    uint32_t version;
    uint64_t digest;  // of a sample of its elements
  };

  std::vector<Slot> slots_;
  std::vector<pybind11::dict> empty_;
};

}  // namespace las
