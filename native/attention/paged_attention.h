#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "attention/kv_arena.h"
#include "attention/step.h"
#include "common/aligned_buffer.h"
#include "common/status.h"
#include "common/thread_pool.h"
#include "cpu/kernels.h"

namespace ucm {

/** One layer's projections for all rows; see LayerInput of src/native/types.ts. */
struct LayerInput {
    int64_t layer;
    const float* q;
    int64_t q_stride;
    const float* k;
    int64_t k_stride;
    const float* v;
    int64_t v_stride;
    /** [head_dim] or null. */
    const float* q_norm;
    const float* k_norm;
    float norm_eps;
};

/**
 * Causal attention over a paged KV cache. One call at a time; a call uses the pool. A row's result
 * is a function of its own query and of the keys and values at or before its position, to the bit.
 */
class PagedAttention {
  public:
    PagedAttention(const KvArena& arena, Rope rope, const cpu::Kernels& kernels, ThreadPool& pool)
        : arena_(arena),
          rope_(std::move(rope)),
          kernels_(kernels),
          tiles_(cpu::TilesFor(kernels, arena.shape().dtype)),
          columns_(ColumnsFor(kernels, arena.shape())),
          block_shift_(std::countr_zero(static_cast<uint64_t>(arena.shape().block_size))),
          pool_(pool) {}

    Status BeginStep(const BatchView& batch);
    /** Rows of the step that BeginStep accepted last; 0 when there is none. */
    int64_t rows() const { return step_.rows(); }
    /** `out` is [rows, num_query_heads * head_dim], contiguous. The caller checks bounds. */
    void Forward(const LayerInput& input, float* out);

  private:
    static constexpr int64_t kSegmentGroups = cpu::GroupsOf(kSegmentKeys);
    static_assert(cpu::kTokenLookahead == 2 * kSegmentGroups,
                  "what is fetched ahead is the next segment");

    /** Buffers of one thread. */
    struct Scratch {
        /** Packed: a panel of keys, or the queries of columns. */
        AlignedBuffer<float> keys;
        /** Packed: a panel of values, or a segment of them. */
        AlignedBuffer<float> values;
        AlignedBuffer<float> scores;
        AlignedBuffer<float> result;
        AlignedBuffer<float> segment_result;
        int32_t depths[kMaxTileRows];
        /** Of the item's rows in their sequence. */
        int64_t positions[kMaxTileRows];
        /** The panel that is read next; addresses of its rows, and of the one behind it. */
        cpu::RowList panel;
        const void* rows[2][cpu::kPanelKeys];
        /** What the thread claimed ahead: an index of the layer's items, or beyond them. */
        std::optional<std::size_t> following;
        /** Of a segment, and of the one that is fetched meanwhile. */
        const void* groups[2 * kSegmentGroups + cpu::kTokenLookahead];
        /** Keys of a segment that the rows of columns see. */
        int32_t seen[kMaxTileRows];
    };
    enum class Plane { kKeys, kValues };

    /** Values [rows][padded head dim], maxima [rows] and sums [rows] of one segment or several. */
    struct Partial {
        float* values;
        float* maxima;
        float* sums;
    };

    /** The kernels by columns, where there are such for the arena; or null. */
    static const cpu::ColumnKernels* ColumnsFor(const cpu::Kernels& kernels,
                                                const ArenaShape& shape);
    void ReserveScratch();
    Partial PartialAt(float* floats, int64_t rows) const;
    /** Position of a tile row among the keys of its sequence. */
    int64_t PositionOf(const WorkItem& item, int64_t tile_row) const {
        return item.first_position + (item.row_begin + tile_row) / arena_.shape().group_size();
    }

    void PrepareRow(const LayerInput& input, int64_t row, float* head);
    /** Leaves the row's prepared queries with sparse attention. */
    void KeepQueries(const SparseRow& sparse, int64_t layer, int64_t row) const;
    /** Writes what is kept of a block that this step filled. */
    void DescribeBlock(int64_t block, int64_t layer) const;
    /** Block `index` of those that the sequence has at a layer. */
    const uint8_t* PieceAt(const SequenceSpan& sequence, int64_t layer, int64_t index) const;
    /** The item's prepared queries, [row][word]. */
    const float* QueryOf(const WorkItem& item);
    /** `count` rows of the plane from `position` on, their addresses in `rows`. */
    cpu::RowList FindRows(const WorkItem& item, int64_t layer, Plane plane, int64_t position,
                          int64_t count, const void** rows) const;
    /** The panel that the item reads after the one of `count` rows from `position` on. */
    cpu::RowList FindNextPanel(const WorkItem& item, int64_t layer, Plane plane, int64_t position,
                               int64_t count, Scratch& scratch) const;
    /** Claims what the thread does next, unless it did so before. */
    void ClaimFollowing(Scratch& scratch) {
        if (!scratch.following) scratch.following = next_item_.fetch_add(1, std::memory_order_relaxed);
    }
    void RunItem(const WorkItem& item, int64_t layer, Scratch& scratch, float* out);
    void ComputeSegment(const WorkItem& item, int64_t layer, int64_t segment, Scratch& scratch,
                        const Partial& partial);
    void ComputeScores(const WorkItem& item, int64_t layer, int64_t first_key, int64_t keys,
                       Scratch& scratch);
    void ComputeValues(const WorkItem& item, int64_t layer, int64_t first_key, int64_t keys,
                       Scratch& scratch, float* values);
    /** Whether the item's rows are of one token, in a shape that has kernels of its own. */
    bool AttendsToken(const WorkItem& item) const;
    /** Groups of the segment's keys, then of their values, into `groups`; returns how many. */
    int64_t FindGroups(const WorkItem& item, int64_t layer, int64_t segment,
                       const void** groups) const;
    /**
     * The same for what the thread reads after a segment, or none: the item's next segment, or the first of
     * the item that follows, which the thread claims.
     */
    int64_t FindNextGroups(const WorkItem& item, int64_t layer, int64_t segment, Scratch& scratch,
                           const void** groups);
    void ComputeTokenSegment(const WorkItem& item, int64_t layer, int64_t segment,
                             Scratch& scratch, const Partial& partial);

    // By columns: paged_columns.cc.
    void ReserveColumns(Scratch& scratch) const;
    void PackColumns(const WorkItem& item, Scratch& scratch);
    void AttendColumns(const WorkItem& item, int64_t layer, int64_t segment, Scratch& scratch,
                       const Partial& partial);
    /** The same row by row, so that none meets a value that it does not see. */
    void AttendColumnRows(const WorkItem& item, cpu::ColumnSegment segment, Scratch& scratch);
    void MergeColumns(const WorkItem& item, const Partial& partial, const Partial& later) const;
    void WriteColumns(const WorkItem& item, const Partial& partial, float* out) const;
    /** Column `index` of a partial result. */
    cpu::ColumnPartial ColumnOf(const Partial& partial, int64_t index) const {
        const int64_t row = index * cpu::kColumnRows;
        return {partial.values + row * arena_.shape().head_dim, partial.maxima + row,
                partial.sums + row};
    }
    /** Where the attention of an item's row goes. */
    float* OutputOf(const WorkItem& item, int64_t row, float* out) const;

    void MergeSegment(const WorkItem& item, int64_t segment, const Partial& partial,
                      const Partial& later);
    void MergeSplit(const SplitTile& split, int64_t layer, float* out);
    void WriteResult(const WorkItem& item, int64_t layer, const Partial& partial, float* out);

    const KvArena& arena_;
    const Rope rope_;
    const cpu::Kernels& kernels_;
    const cpu::TileKernels tiles_;
    const cpu::ColumnKernels* const columns_;
    const int block_shift_;
    ThreadPool& pool_;
    Step step_;
    std::vector<Scratch> scratch_;
    /** Prepared queries: [kv head][row][query head of the group][head_dim]. */
    AlignedBuffer<float> queries_;
    /** The same as words of pairs, where the tiles take such. */
    AlignedBuffer<float> query_words_;
    AlignedBuffer<float> partials_;
    /** Parts not yet finished, per split tile. */
    std::unique_ptr<std::atomic<int64_t>[]> parts_left_;
    /** Items of the layer, and behind them filled blocks, that no thread has claimed. */
    std::atomic<std::size_t> next_item_ = 0;
};

}  // namespace ucm
