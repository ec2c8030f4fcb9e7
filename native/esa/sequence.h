#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "attention/kv_arena.h"
#include "attention/step.h"
#include "esa/prompt.h"
#include "esa/selection.h"
#include "esa/slot_map.h"

namespace ucm::esa {

/** A watched or entered sequence. Only the caller's thread uses it. */
class Sequence {
  public:
    Sequence(std::shared_ptr<Prompt> prompt, const ArenaShape& shape, int64_t dense_layers,
             std::span<const int32_t> block_ids);

    /** What the sequence's row of a step is to leave here and find in its slots. */
    SparseRow RowOf(int64_t index);

    /**
     * Its slots are these blocks from now on, with the candidates that are in them. All candidates of
     * the dense layers are copied out of the arena.
     */
    void Enter(const KvArena& arena, std::vector<int32_t> slot_blocks, ThreadPool& pool);
    /** The pieces to attend, after `slots` changed. */
    void BuildTable(const KvArena& arena);
    /**
     * Mean cosine, over heads and the layers that choose, of the last queries with those of the
     * selection in use.
     */
    double QueryCosine(const ArenaShape& shape) const;
    /** Of keys and values at the dense layers, outside the arena. */
    int64_t dense_bytes() const { return dense_.capacity(); }

    const std::shared_ptr<Prompt> prompt;
    /** Of the first blocks and the candidates, until it enters. */
    std::vector<int32_t> block_ids;
    /** What its last row asked and found. */
    Observation seen;
    bool observed = false;

    bool entered = false;
    bool lost = false;
    /** Physical block of each slot. */
    std::vector<int32_t> slot_blocks;
    SlotMap slots{0, 0};
    /** [layer][slots], in order of position; null at the dense layers. */
    std::vector<const uint8_t*> table;
    /** Queries of the selection in use, and steps since it came into use. */
    std::vector<float> chosen_by;
    int64_t steps = 0;
    uint64_t selections = 0;
    /** The next selection, and steps since it was started. */
    std::shared_ptr<Selection> pending;
    int64_t pending_steps = 0;
    /** Memory for what selections load, when none has it. */
    std::unique_ptr<AlignedBuffer<uint8_t>> staging = std::make_unique<AlignedBuffer<uint8_t>>();

  private:
    void CopyDenseLayers(const KvArena& arena, ThreadPool& pool);

    const int64_t dense_layers_;
    /** Keys and values, [dense layer][candidate], and where they are. */
    AlignedBuffer<uint8_t> dense_;
    std::vector<const uint8_t*> dense_pieces_;
};

}  // namespace ucm::esa
