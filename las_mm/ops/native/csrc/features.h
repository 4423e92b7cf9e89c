// Memory for features that leave native code.
#pragma once

#include <ATen/ops/empty.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdint>

namespace las {

// As at::empty. Large ones, which come from the system anew each time, ask for large pages: touching
// them page by page takes as long as writing them.
inline at::Tensor empty_features(at::IntArrayRef sizes, const at::TensorOptions& options,
                                 at::MemoryFormat format) {
  at::Tensor out = at::empty(sizes, options, format);
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t kLargePage = 2 << 20;
  const auto start = reinterpret_cast<uintptr_t>(out.mutable_data_ptr());
  const uintptr_t first = (start + kLargePage - 1) / kLargePage * kLargePage;
  const uintptr_t end = (start + out.nbytes()) / kLargePage * kLargePage;
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);  // a wish
#endif
  return out;
}

}  // namespace las
