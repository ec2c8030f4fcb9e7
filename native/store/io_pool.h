#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <memory>

namespace ucm {

using Clock = std::chrono::steady_clock;

/** Memory of one I/O thread, aligned for direct I/O. */
struct Staging {
    uint8_t* data = nullptr;
    int64_t bytes = 0;
};

/** Who goes first: smaller ones do. */
struct IoOrder {
    enum Lane : uint8_t { kMaintenance, kRead, kWrite };

    Lane lane = kRead;
    /** Reads go window by window, layer by layer within a window: layer 0 of all blocks first. */
    uint64_t window = 0;
    int64_t layer = 0;

    auto operator<=>(const IoOrder&) const = default;
};

/** A piece of work of one or several steps, any of which may get stuck in the kernel. */
class IoTask {
  public:
    virtual ~IoTask() = default;

    virtual IoOrder Order() const = 0;
    /** One step, on an I/O thread. True when another one is to follow. */
    virtual bool RunStep(const Staging& staging) = 0;
    /**
     * Time is up: the task must tell its caller now, without waiting. It may be called while RunStep
     * is stuck in a system call; what that call brings later must have no effect. At most once.
     */
    virtual void Expire() = 0;
};

struct IoPoolOptions {
    int threads = 4;
    int64_t staging_bytes = 256 * 1024;
    /** A system call that takes longer is stuck: its thread is given up and replaced. */
    std::chrono::milliseconds stall_timeout{2000};
    /** A read that takes longer than this in all is given up. */
    std::chrono::milliseconds total_timeout{30000};
};

/**
 * Threads for one device, which may hang. Callers never wait for it: a watchdog expires what is stuck
 * or had to wait behind what is stuck, and puts a new thread in the place of a stuck one, up to as
 * many again as the pool has. A stuck thread that comes back takes its place again or ends.
 */
class IoPool {
  public:
    explicit IoPool(const IoPoolOptions& options);
    /** As Close without patience. */
    ~IoPool();
    IoPool(const IoPool&) = delete;
    IoPool& operator=(const IoPool&) = delete;

    /** Expires the task at once when the pool is closed. */
    void Submit(std::shared_ptr<IoTask> task);

    /** Waits until nothing is queued or running. False when that took longer than `patience`. */
    bool Drain(std::chrono::milliseconds patience);

    /**
     * Lets submitted work go on for at most `patience`, expires the rest, and ends the threads. When
     * it returns, no task runs other than on stuck threads, whose tasks were all expired.
     */
    void Close(std::chrono::milliseconds patience);

    /** Threads that are stuck right now. */
    int stuck() const;
    /** Threads that were given up so far. */
    int64_t given_up() const;

    /** Tells the watchdog that the calling I/O thread is alive. Does nothing on other threads. */
    static void Beat();

  private:
    class Core;
    std::shared_ptr<Core> core_;
};

}  // namespace ucm
