#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace ucm {

/** Uninitialised, cache-line aligned array that only grows; growing does not keep the contents. */
template <typename T>
class AlignedBuffer {
  public:
    static constexpr std::size_t kAlignment = 64;

    /** Makes room for `count` elements. Throws std::bad_alloc like any allocation. */
    void Reserve(int64_t count) {
        if (count <= capacity_) return;
        const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
        const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
        data_.reset(static_cast<T*>(std::aligned_alloc(kAlignment, rounded)));
        capacity_ = data_ == nullptr ? 0 : count;
        if (data_ == nullptr) throw std::bad_alloc();
    }

    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    int64_t capacity() const { return capacity_; }

  private:
    struct Free {
        void operator()(T* pointer) const { std::free(pointer); }
    };
    std::unique_ptr<T, Free> data_;
    int64_t capacity_ = 0;
};

}  // namespace ucm
