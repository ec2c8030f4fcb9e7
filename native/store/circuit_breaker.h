#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>

namespace ucm {

/**
 * Keeps callers away from a device that fails: opens after some failures in a row, lets one probe
 * through after a pause that doubles from probe to probe, and closes when one succeeds.
 */
class CircuitBreaker {
  public:
    using Clock = std::chrono::steady_clock;

    struct Options {
        int failures = 3;
        std::chrono::milliseconds first_pause{1000};
        std::chrono::milliseconds longest_pause{30000};
    };

    explicit CircuitBreaker(const Options& options) : options_(options) {}

    bool closed() const {
        const std::lock_guard lock(mutex_);
        return !open_;
    }

    /** How often it went from closed to open. */
    int64_t openings() const {
        const std::lock_guard lock(mutex_);
        return openings_;
    }

    /** True when the caller may try: always while closed; while open, one caller after each pause. */
    bool Admit(Clock::time_point now = Clock::now()) {
        const std::lock_guard lock(mutex_);
        if (!open_) return true;
        if (now < probe_at_) return false;
        Pause(now);
        return true;
    }

    void Succeed() {
        const std::lock_guard lock(mutex_);
        open_ = false;
        failures_ = 0;
    }

    void Fail(Clock::time_point now = Clock::now()) {
        const std::lock_guard lock(mutex_);
        ++failures_;
        if (open_ || failures_ < options_.failures) return;
        open_ = true;
        ++openings_;
        pause_ = options_.first_pause;
        Pause(now);
    }

  private:
    void Pause(Clock::time_point now) {
        probe_at_ = now + pause_;
        pause_ = std::min(2 * pause_, options_.longest_pause);
    }

    const Options options_;
    mutable std::mutex mutex_;
    bool open_ = false;
    int failures_ = 0;
    int64_t openings_ = 0;
    std::chrono::milliseconds pause_{};
    Clock::time_point probe_at_{};
};

}  // namespace ucm
