#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <vector>

#include "store/block_key.h"

namespace ucm {

enum class Hint : uint8_t { kNone, kPresent, kAbsent };

/**
 * What was last seen of a block's file: saves asking a slow file system again. A hint runs out, may
 * be wrong, and is never taken for the content: a load reads the file whatever the hint was.
 */
class HintCache {
  public:
    using Clock = std::chrono::steady_clock;

    /** Other servers remove files rarely, and a load notices. */
    static constexpr std::chrono::seconds kPresentFor{30};
    /** Other servers add files all the time. */
    static constexpr std::chrono::seconds kAbsentFor{2};
    /** A file that failed to load would fail again. */
    static constexpr std::chrono::seconds kBadFor{60};

    HintCache() : slots_(kSlots) {}

    Hint Find(const BlockKey& key, Clock::time_point now = Clock::now()) const {
        const std::lock_guard lock(mutex_);
        const Slot& slot = slots_[key.Word() % kSlots];
        return slot.key == key && now < slot.until ? slot.hint : Hint::kNone;
    }

    void Put(const BlockKey& key, Hint hint, std::chrono::seconds duration) {
        const Clock::time_point until = Clock::now() + duration;
        const std::lock_guard lock(mutex_);
        slots_[key.Word() % kSlots] = {key, until, hint};
    }
    void PutPresent(const BlockKey& key) { Put(key, Hint::kPresent, kPresentFor); }
    void PutAbsent(const BlockKey& key) { Put(key, Hint::kAbsent, kAbsentFor); }
    void PutBad(const BlockKey& key) { Put(key, Hint::kAbsent, kBadFor); }

  private:
    struct Slot {
        BlockKey key;
        Clock::time_point until{};
        Hint hint = Hint::kNone;
    };
    /** One key per slot: a newer one with the same slot takes it. */
    static constexpr std::size_t kSlots = 1 << 14;

    mutable std::mutex mutex_;
    std::vector<Slot> slots_;
};

}  // namespace ucm
