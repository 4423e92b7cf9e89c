#include "weight_memory.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace las {
namespace {

constexpr size_t kLine = 64, kLargePage = 2 << 20, kRegionBytes = 32 << 20;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Address space that becomes memory where it is written.
class Region {
 public:
  explicit Region(size_t bytes)
      : size_(round_up(bytes, kLargePage)),
        data_(static_cast<char*>(std::aligned_alloc(kLargePage, size_))) {
    if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    madvise(data_, size_, MADV_HUGEPAGE);  // a wish: without it everything works, too
#endif
  }
  ~Region() { std::free(data_); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  // For the one thread that takes from this region; null if there is no room.
  char* take(size_t bytes) {
    if (char* again = take_again(bytes)) return again;
    if (size_ - used_ < bytes) return nullptr;
    used_ += bytes;
    return data_ + used_ - bytes;
  }

  // From any thread. One weight keeps the whole region: what the others leave must be used again, or
  // packing a single block anew and anew would take a region each time one is full.
  void give_back(char* start, size_t bytes) noexcept {
    if (busy_.test_and_set(std::memory_order_acquire)) return;
    try {
      free_[bytes].push_back(start);
    } catch (const std::bad_alloc&) {  // then it comes back with the region
    }
    busy_.clear(std::memory_order_release);
  }

 private:
  char* take_again(size_t bytes) {
    if (busy_.test_and_set(std::memory_order_acquire)) return nullptr;
    char* start = nullptr;
    const auto found = free_.find(bytes);
    if (found != free_.end() && !found->second.empty()) {
      start = found->second.back();
      found->second.pop_back();
    }
    busy_.clear(std::memory_order_release);
    return start;
  }

  const size_t size_;
  char* const data_;
  size_t used_ = 0;
  // Of `free_`. Nobody waits for it: a thread that has it at a fork does not live on in the child.
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  std::map<size_t, std::vector<char*>> free_;  // by size
};

}  // namespace

std::shared_ptr<char> allocate_weights(size_t bytes) {
  static thread_local std::weak_ptr<Region> newest;
  std::shared_ptr<Region> region = newest.lock();
  bytes = round_up(std::max<size_t>(bytes, 1), kLine);
  char* start = region ? region->take(bytes) : nullptr;
  if (!start) {
    region = std::make_shared<Region>(std::max(bytes, kRegionBytes));
    newest = region;
    start = region->take(bytes);
  }
  return {start, [region, bytes](char* start) { region->give_back(start, bytes); }};
}

}  // namespace las
