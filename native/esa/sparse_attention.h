#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "attention/kv_arena.h"
#include "attention/step.h"
#include "common/status.h"
#include "common/thread_pool.h"
#include "esa/job_thread.h"
#include "esa/recall_probe.h"
#include "esa/selection.h"
#include "esa/sequence.h"
#include "esa/sparse_options.h"
#include "esa/sparse_stats.h"
#include "store/kv_store.h"

namespace ucm::esa {

/**
 * Attention of decoding sequences over a part of their prompt; see SparseAttention of
 * src/native/sparse-types.ts. All calls come from one thread, the one that runs the steps. Blocks of
 * the arena are read and written within these calls alone: the selection thread and the store's only
 * touch memory of their own.
 */
class SparseAttention {
  public:
    static Status Create(std::shared_ptr<KvArena> arena, std::shared_ptr<KvStore> store,
                         const SparseOptions& options, const cpu::Kernels& kernels,
                         std::shared_ptr<ThreadPool> pool,
                         std::shared_ptr<SparseAttention>* attention);
    ~SparseAttention() { Dispose(); }

    Status Watch(int32_t id, const SparseBudget& budget, std::span<const int32_t> block_ids,
                 std::span<const BlockKey> keys);
    /** Slots are blocks: of its candidates, or such as are in nobody's table. */
    Status Enter(int32_t id, std::span<const int32_t> slots);
    /** Those that cannot go on. */
    std::vector<int32_t> Settle(std::span<const int32_t> ids);
    /**
     * What the sequences of a batch have to do with this; `ids` has -1 for those that have nothing.
     * `rows` point into the sequences, which stay until the next step begins.
     */
    Status BeginStep(std::span<const int32_t> ids, std::span<const int32_t> query_start,
                     std::vector<SparseRow>* rows);
    void FinishStep();
    void Leave(std::span<const int32_t> ids);

    std::vector<float> TakeRecalls() { return recalls_->Take(); }
    Status Chosen(int32_t id, int64_t layer, std::vector<int32_t>* candidates) const;
    const KvArena& arena() const { return *arena_; }
    const Counters& counters() const { return workshop_->counters; }
    int64_t sequences() const { return static_cast<int64_t>(sequences_.size()); }
    /** Of representations outside the arena. */
    int64_t representation_bytes() const;
    /** Of keys and values at the dense layers, outside the arena. */
    int64_t dense_layer_bytes() const;

    /** Ends the thread and forgets all sequences. */
    void Dispose();

  private:
    using Sequences = std::vector<std::shared_ptr<Sequence>>;
    /** Copies of one switch: from memory to the slots. */
    struct Copy {
        uint8_t* to;
        const uint8_t* from;
    };

    SparseAttention(std::shared_ptr<KvArena> arena, std::shared_ptr<KvStore> store,
                    const SparseOptions& options, const cpu::Kernels& kernels,
                    std::shared_ptr<ThreadPool> pool);
    Sequence* Find(int32_t id) const;
    /** Whether blocks can be the slots of a sequence. */
    Status CheckSlots(int32_t id, const SparseBudget& budget, std::vector<int32_t> slots) const;
    /** Layers at which blocks are chosen: those behind the dense ones. */
    int64_t choosing_layers() const {
        return arena_->shape().num_layers - workshop_->options.dense_layers;
    }
    /**
     * The moves of a first selection, made here and now while the candidates are still in `blocks`:
     * by their true mass, unless a score for measurements is asked for.
     */
    std::vector<Move> ChooseNow(const Sequence& sequence, std::span<const int32_t> blocks);
    uint8_t* SlotPiece(const Sequence& sequence, const Move& move) const;
    void CopyPieces(std::span<const Copy> copies);
    bool IsDue(const Sequence& sequence) const;
    /**
     * Ranks what due selections have not ranked yet: the thread that they run on has one core, and this
     * one would only wait for it. False when there is none to wait for.
     */
    bool HelpSelections(std::span<const int32_t> ids);
    /** Waits until the due selection is there; false when the sequence is lost. */
    bool AwaitSelection(Sequence& sequence, Clock::time_point deadline, bool* waited);
    /** Puts selections that are there into the slots. */
    void Switch(const std::vector<Sequence*>& ready);
    void StartSelection(Sequence& sequence, bool early);
    void ProbeRecall();
    void Lose(Sequence& sequence);

    const std::shared_ptr<KvArena> arena_;
    const std::shared_ptr<ThreadPool> pool_;
    const std::shared_ptr<KvStore> store_;
    const std::shared_ptr<Workshop> workshop_;
    const std::shared_ptr<Recalls> recalls_ = std::make_shared<Recalls>();
    std::unordered_map<int32_t, std::shared_ptr<Sequence>> sequences_;
    /** Of the last step, also when they left since: attention writes to them until the next one. */
    Sequences in_step_;
    bool step_is_open_ = false;
    /** Of the pool's threads. */
    std::vector<BlockScorer::Scratch> scratch_;
    int64_t finished_steps_ = 0;
    int64_t probes_ = 0;
    std::unique_ptr<JobThread> thread_;
};

}  // namespace ucm::esa
