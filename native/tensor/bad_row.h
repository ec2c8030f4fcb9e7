#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "common/status.h"

namespace ucm {

/** Magnitudes at or above these bits are infinite or NaN. */
constexpr uint32_t kInfinityBits = 0x7f800000;

/** Remembers the lowest row that holds a value which is not finite. */
class BadRow {
  public:
    void Report(int64_t row) {
        int64_t lowest = row_.load();
        while (row < lowest && !row_.compare_exchange_weak(lowest, row)) {
        }
    }
    Status ToStatus(const char* function) const {
        if (row_.load() == INT64_MAX) return Status::Ok();
        return Status::InvalidArgument(std::string(function) + ": row " +
                                       std::to_string(row_.load()) +
                                       " of the weight holds a NaN or an infinity");
    }

  private:
    std::atomic<int64_t> row_{INT64_MAX};
};

}  // namespace ucm
