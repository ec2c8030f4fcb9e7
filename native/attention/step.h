#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "attention/kv_arena.h"
#include "common/status.h"

namespace ucm {

/** Keys of one segment. Segments start at multiples of it, whatever the batch: see README.md. */
constexpr int64_t kSegmentKeys = 256;
/** Floats from one row of a segment's scores to the next: at a power of two they would share few lines of a cache. */
constexpr int64_t kScoreStride = kSegmentKeys + cpu::kMaxWidth;
/** Most rows of one work item that packs panels of keys and values, and of one that attends by columns. */
constexpr int64_t kPanelTileRows = 96;
constexpr int64_t kColumnTileRows = 256;
constexpr int64_t kMaxTileRows = std::max(kPanelTileRows, kColumnTileRows);

/** Rotary embedding; see RopeSpec of src/native/types.ts. Empty inv_freq: none. */
struct Rope {
    std::vector<double> inv_freq;
    double scale = 1.0;
};

/** What a sequence of one row has to do with sparse attention. */
struct SparseRow {
    /** In the batch. */
    int64_t sequence = 0;
    /**
     * Blocks [first_slot, first_slot + slots) of its table, which must be `slot_blocks`, are
     * pieces of their own at each layer: [layer][slots], in order of position.
     */
    int64_t first_slot = 0;
    int64_t slots = 0;
    const int32_t* slot_blocks = nullptr;
    const uint8_t* const* pieces = nullptr;
    /**
     * At the first layers, as many in all rows of a step, it has more pieces in their place, the same
     * number at each of these: [dense layer][dense slots], in order of position.
     */
    int64_t dense_layers = 0;
    int64_t dense_slots = 0;
    const uint8_t* const* dense_pieces = nullptr;
    /** Where the row leaves what it asked: its prepared queries, [layer][query head][head_dim]. */
    float* queries = nullptr;
    /** And what it found: greatest score and sum of exponentials, both [layer][query head]. */
    float* maxima = nullptr;
    float* sums = nullptr;

    int64_t SlotsAt(int64_t layer) const { return layer < dense_layers ? dense_slots : slots; }
    const uint8_t* PieceAt(int64_t layer, int64_t slot) const {
        return layer < dense_layers ? dense_pieces[layer * dense_slots + slot]
                                    : pieces[layer * slots + slot];
    }
};

/** The sequences of one step; see BatchSpec of src/native/types.ts. */
struct BatchView {
    std::span<const int32_t> query_start;
    std::span<const int32_t> context_lens;
    std::span<const int32_t> block_start;
    std::span<const int32_t> block_ids;
    /** True position of each sequence's first row; empty where it is its place in the table. */
    std::span<const int32_t> positions = {};
    /** At most one of each sequence. What they point to must live until the next step begins. */
    std::span<const SparseRow> sparse = {};
};

/** One sequence of the step. */
struct SequenceSpan {
    /** Row of the batch of its first token. */
    int64_t first_row;
    int64_t rows;
    /** Position of its first row. */
    int64_t first_position;
    /** Into Step::block_ids(). */
    int64_t first_block;
    /** What the first row is rotated by. */
    int64_t true_position;
    /** Null for most. */
    const SparseRow* sparse;
};

/**
 * Attention of some rows of one sequence for one KV head over some segments. Tile rows count
 * (token, query head of the group) pairs, heads fastest: tile row t is token t / group size.
 */
struct WorkItem {
    int64_t sequence;
    /** Of the sequence's first row, among the keys that it has at the item's layers. */
    int64_t first_position;
    int64_t kv_head;
    int64_t row_begin;
    int64_t rows;
    int64_t segment_begin;
    int64_t segment_end;
    /** Index of the split tile it is a part of, or -1 when it covers all segments of its rows. */
    int64_t split;
};

/** A tile whose segments several work items share; the last to finish merges them in order. */
struct SplitTile {
    WorkItem whole;
    int64_t parts;
    /** Into the buffer of partial results, in floats. */
    int64_t partial_offset;
};

/** What there is to do at a layer. */
struct WorkList {
    std::vector<WorkItem> items;
    std::vector<SplitTile> splits;
    int64_t partial_floats = 0;
    /** Multiply-adds of QK and PV together. */
    int64_t cost = 0;
};

/** A checked batch: where its rows are, their rotations, and the work list of each layer. */
class Step {
  public:
    /**
     * Work items get `most_rows` rows at most. Fails, leaving the step unusable, when the batch does not fit
     * the arena.
     */
    Status Build(const ArenaShape& shape, const Rope& rope, const BatchView& batch, int threads,
                 int64_t most_rows);

    int64_t rows() const { return rows_; }
    std::span<const SequenceSpan> sequences() const { return sequences_; }
    const WorkList& work(int64_t layer) const { return layer < dense_layers_ ? dense_work_ : work_; }
    /** The most that any layer needs. */
    std::size_t splits() const { return std::max(work_.splits.size(), dense_work_.splits.size()); }
    int64_t partial_floats() const {
        return std::max(work_.partial_floats, dense_work_.partial_floats);
    }
    std::span<const int32_t> block_ids() const { return block_ids_; }
    /** Blocks whose last token this step writes. */
    std::span<const int32_t> filled_blocks() const { return filled_blocks_; }
    int64_t row_sequence(int64_t row) const { return row_sequence_[static_cast<std::size_t>(row)]; }

    int64_t rope_half() const { return rope_half_; }
    /** [rope_half] of the row. */
    const float* cos(int64_t row) const { return cos_.data() + row * rope_half_; }
    const float* sin(int64_t row) const { return sin_.data() + row * rope_half_; }

  private:
    Status CheckSequences(const ArenaShape& shape, const BatchView& batch);
    Status CheckSparse(const ArenaShape& shape, const BatchView& batch);
    Status CheckWrites(const ArenaShape& shape);
    void FindFilledBlocks(const ArenaShape& shape);
    void BuildRotations(const Rope& rope);
    void BuildWork(const ArenaShape& shape, int threads, int64_t most_rows, int64_t layer,
                   WorkList* work) const;

    int64_t rows_ = 0;
    std::vector<SequenceSpan> sequences_;
    std::vector<SparseRow> sparse_;
    std::vector<int32_t> block_ids_;
    std::vector<int32_t> filled_blocks_;
    std::vector<int32_t> row_sequence_;
    /** Per block of the arena: 1 + the sequence that writes it in this step, or 0. */
    std::vector<int32_t> writer_;

    int64_t rope_half_ = 0;
    std::vector<float> cos_;
    std::vector<float> sin_;

    /** Of the layers before `dense_layers_`, and of the others. */
    WorkList dense_work_;
    WorkList work_;
    int64_t dense_layers_ = 0;
};

/** Row stride of head vectors in padded scratch buffers. */
constexpr int64_t PaddedHeadDim(int64_t head_dim) {
    return (head_dim + cpu::kMaxWidth - 1) / cpu::kMaxWidth * cpu::kMaxWidth;
}

/** Rows for which there is room where there is some for `rows`: whole columns. */
constexpr int64_t PaddedRows(int64_t rows) {
    return (rows + cpu::kColumnRows - 1) / cpu::kColumnRows * cpu::kColumnRows;
}

/** Floats of one segment's partial result: values [padded rows][padded head dim], maxima, sums. */
constexpr int64_t PartialFloats(int64_t rows, int64_t head_dim) {
    return PaddedRows(rows) * (PaddedHeadDim(head_dim) + 2);
}

}  // namespace ucm
