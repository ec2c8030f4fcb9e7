#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace ucm {

/** Counts from any thread, one per enumerator of `Counter`, whose last is kCount. */
template <typename Counter>
class CounterArray {
  public:
    void Add(Counter counter, int64_t amount = 1) {
        values_[static_cast<std::size_t>(counter)].fetch_add(amount, std::memory_order_relaxed);
    }
    int64_t Get(Counter counter) const {
        return values_[static_cast<std::size_t>(counter)].load(std::memory_order_relaxed);
    }

  private:
    std::array<std::atomic<int64_t>, static_cast<std::size_t>(Counter::kCount)> values_{};
};

}  // namespace ucm
