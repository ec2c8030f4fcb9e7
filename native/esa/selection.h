#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "common/aligned_buffer.h"
#include "esa/block_scorer.h"
#include "esa/job_thread.h"
#include "esa/prompt.h"
#include "esa/slot_map.h"
#include "esa/sparse_stats.h"
#include "store/kv_store.h"

namespace ucm::esa {

/** What jobs work with; it outlives them. */
struct Workshop {
    ArenaShape shape;
    SparseOptions options;
    const cpu::Kernels& kernels;
    BlockScorer scorer;
    /**
     * Jobs end on the store's own threads, which must not be the last to hold it: they would wait for
     * themselves.
     */
    std::weak_ptr<KvStore> store;
    /** Bytes of one (block, layer) piece. */
    int64_t piece_bytes;
    std::shared_ptr<JobQueue> queue;
    Counters counters;
};

/**
 * The next selection of a sequence: ranks the candidates at every layer that chooses and reads those that
 * are not in the slots yet from the store, into memory of its own. It has copies of all that it reads, so
 * that the sequence may go on, or end, meanwhile.
 */
class Selection final : public Job, public std::enable_shared_from_this<Selection> {
  public:
    enum class State { kRunning, kReady, kFailed };

    Selection(std::shared_ptr<Workshop> workshop, std::shared_ptr<const Prompt> prompt,
              Observation seen, SlotMap slots, uint64_t number,
              std::unique_ptr<AlignedBuffer<uint8_t>> staging);

    void Run(BlockScorer::Scratch& scratch) override { Rank(scratch); }

    /**
     * Ranks layers that nobody has begun, until there are none; whoever ranks the last one starts the
     * loads. Any number of threads may do this at once: what is chosen does not depend on who ranks.
     */
    void Rank(BlockScorer::Scratch& scratch);
    /** The state by `deadline` at the latest. */
    State Wait(Clock::time_point deadline);

    // What came of it; only once it is ready.
    std::span<const Move> moves() const { return moves_; }
    /** The piece of a move. */
    const uint8_t* Piece(std::size_t move) const;
    const Observation& seen() const { return seen_; }
    /** The memory that was lent, larger perhaps. */
    std::unique_ptr<AlignedBuffer<uint8_t>> TakeStaging() { return std::move(staging_); }

  private:
    /** Lists the moves of all layers. */
    void JoinMoves();
    void Load();
    void End(State state);

    const std::shared_ptr<Workshop> workshop_;
    const std::shared_ptr<const Prompt> prompt_;
    const Observation seen_;
    const SlotMap slots_;
    const uint64_t number_;
    std::unique_ptr<AlignedBuffer<uint8_t>> staging_;
    std::atomic<int64_t> next_layer_;
    std::atomic<int64_t> unranked_layers_;
    /** [layers that choose] */
    std::vector<std::vector<Move>> moves_of_layers_;
    std::vector<Move> moves_;
    std::mutex mutex_;
    std::condition_variable ended_;
    State state_ = State::kRunning;
};

}  // namespace ucm::esa
