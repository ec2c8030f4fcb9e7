#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>

#include "comm/communicator.h"
#include "comm/shared_region.h"

namespace ucm {

struct ShmOptions {
    int rank = 0;
    /** How long a rank waits for the others in one operation. */
    std::chrono::milliseconds timeout{60'000};
    /** How long it spins before it sleeps; 0 where ranks share cores. */
    std::chrono::microseconds spin{100};
};

/**
 * Collectives of processes of one machine over shared memory. A part goes through the rank's slot in
 * pieces; two slots in turn, so that one meeting per piece is enough: who has met the others in
 * operation k + 1 knows that they have read all of operation k. A rank that is waited for spins in
 * its cache line, then sleeps on a futex; one that has ended is noticed within a tenth of a second.
 */
class ShmCommunicator final : public Communicator {
  public:
    /** `region` may be shared by the ranks of one process, which tests do. */
    ShmCommunicator(std::shared_ptr<SharedRegion> region, const ShmOptions& options);
    ~ShmCommunicator() override;
    ShmCommunicator(const ShmCommunicator&) = delete;
    ShmCommunicator& operator=(const ShmCommunicator&) = delete;

    int rank() const override { return options_.rank; }
    int world_size() const override { return region_->world_size(); }
    Status AllReduceSum(std::span<float> data) override;
    Status GatherColumns(std::span<const float> part, int64_t rows, int64_t width,
                         float* out) override;
    Status Broadcast(std::span<uint8_t> bytes) override;

    /** Signs of life; from any thread. */
    void NoteProgress() { Raise(region_->heartbeat(rank()).progress); }
    void NoteIdle() { Raise(region_->heartbeat(rank()).idle); }

  private:
    /** Says that `bytes` are in this rank's slot and waits until every rank has said so. */
    Status Meet(std::size_t bytes);
    Status Await(int peer, uint32_t ticket);
    bool SpinFor(const RankState& peer, uint32_t ticket) const;
    bool HasEnded(int peer);
    /** Where this rank writes its part of the next meeting. */
    uint8_t* Next() const { return region_->slot(ticket_ % 2, rank()); }
    /** What a rank brought to the last one. */
    const uint8_t* Met(int rank) const { return region_->slot((ticket_ - 1) % 2, rank); }
    static void Raise(std::atomic<uint64_t>& counter) {
        counter.fetch_add(1, std::memory_order_relaxed);
    }

    std::shared_ptr<SharedRegion> region_;
    ShmOptions options_;
    /** Meetings so far. */
    uint32_t ticket_ = 0;
    /** pidfds of the others, opened when one is waited for; -1 for none. */
    std::array<int, kMaxRanks> processes_;
};

}  // namespace ucm
