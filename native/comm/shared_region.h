#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "common/status.h"

namespace ucm {

inline constexpr int kMaxRanks = 64;
inline constexpr std::size_t kCacheLine = 64;

/** Signs of life of a rank, at byte rank * 64 of the region: an observer may read them as a file. */
struct alignas(kCacheLine) Heartbeat {
    /** Raised while a step is computed. */
    std::atomic<uint64_t> progress;
    /** Raised by the idle loop. */
    std::atomic<uint64_t> idle;
};

/** Where a rank says how far it is; words of their own cache line, futexes among them. */
struct alignas(kCacheLine) RankState {
    /** Operations that the rank has written its part of. */
    std::atomic<uint32_t> arrived;
    /** Ranks that sleep until `arrived` changes. */
    std::atomic<uint32_t> sleepers;
    /** 0 until the rank has joined. */
    std::atomic<int32_t> pid;
    /** Bytes of the last two operations, by parity; ranks that disagree are out of step. */
    std::atomic<uint64_t> bytes[2];
};

/**
 * Memory that the ranks of one model share: a file without a name, whose descriptor each process
 * inherits. Nothing is left of it when the last process has ended, however it did. All zero at first.
 */
class SharedRegion {
  public:
    /**
     * Maps the file of `descriptor`, which stays the caller's, and takes memory for `world_size`
     * ranks with two slots of `slot_bytes` each. An error when the system has no room for it.
     */
    static Status Map(int descriptor, int world_size, std::size_t slot_bytes,
                      std::unique_ptr<SharedRegion>* region);
    ~SharedRegion();
    SharedRegion(const SharedRegion&) = delete;
    SharedRegion& operator=(const SharedRegion&) = delete;

    int world_size() const { return world_size_; }
    std::size_t slot_bytes() const { return slot_bytes_; }
    Heartbeat& heartbeat(int rank) const { return heartbeats()[rank]; }
    RankState& state(int rank) const { return states()[rank]; }
    /** The slot of a rank for operations of one parity; aligned to a cache line. */
    uint8_t* slot(unsigned parity, int rank) const;

  private:
    SharedRegion(uint8_t* data, std::size_t bytes, int world_size, std::size_t slot_bytes)
        : data_(data), bytes_(bytes), world_size_(world_size), slot_bytes_(slot_bytes) {}
    Heartbeat* heartbeats() const { return reinterpret_cast<Heartbeat*>(data_); }
    RankState* states() const { return reinterpret_cast<RankState*>(heartbeats() + kMaxRanks); }

    uint8_t* data_;
    std::size_t bytes_;
    int world_size_;
    std::size_t slot_bytes_;
};

}  // namespace ucm
