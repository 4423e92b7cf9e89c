#include "weight_memory.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace las {
namespace {

constexpr size_t kLine = 64, kLargePage = 2 << 20, kRegionBytes = 32 << 20;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Address space that becomes memory where it is written.
struct Region {
  explicit Region(size_t bytes)
      : size(round_up(bytes, kLargePage)),
        data(static_cast<char*>(std::aligned_alloc(kLargePage, size))) {
    if (!data) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    madvise(data, size, MADV_HUGEPAGE);  // a wish: without it everything works, too
#endif
  }
  ~Region() { std::free(data); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  const size_t size;
  char* const data;
  size_t used = 0;
};

}  // namespace

std::shared_ptr<char> allocate_weights(size_t bytes) {
  // Of this thread: a lock that another one holds at a fork would never be free in the child.
  static thread_local std::weak_ptr<Region> newest;
  std::shared_ptr<Region> region = newest.lock();
  bytes = round_up(std::max<size_t>(bytes, 1), kLine);
  if (!region || region->size - region->used < bytes) {
    region = std::make_shared<Region>(std::max(bytes, kRegionBytes));
    newest = region;
  }
  char* start = region->data + region->used;
  region->used += bytes;
  return {region, start};
}

}  // namespace las
