// Memory that grows, is aligned to cache lines and never initialised.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace las {

template <class T>
class Buffer {
 public:
  // At least `count` elements; what was there is lost when the buffer has to grow.
  T* reserve(size_t count) {
    if (count > capacity_) {
      const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
      data_.reset();
      data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
      capacity_ = data_ ? count : 0;
      if (!data_) throw std::bad_alloc();
    }
    return data_.get();
  }
  T* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  size_t capacity_ = 0;
};

// The same in elements of another type.
template <class T>
T* reserve(Buffer<char>& buffer, size_t count) {
  return reinterpret_cast<T*>(buffer.reserve(count * sizeof(T)));
}

}  // namespace las
