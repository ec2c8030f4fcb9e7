// Attention by columns: PagedAttention where an instruction set has ColumnKernels for the arena.

#include <algorithm>
#include <limits>

#include "attention/paged_attention.h"

namespace ucm {
namespace {

/** Keys that columns take at a time. */
constexpr int64_t kPairKeys = 2 * cpu::kGroupKeys;

}  // namespace

const cpu::ColumnKernels* PagedAttention::ColumnsFor(const cpu::Kernels& kernels,
                                                     const ArenaShape& shape) {
    const bool fits = shape.dtype == cpu::Dtype::kBfloat16 && shape.head_dim % kPairKeys == 0 &&
                      shape.block_size >= cpu::kGroupKeys;
    return fits ? kernels.columns : nullptr;
}

void PagedAttention::ReserveColumns(Scratch& scratch) const {
    const int64_t dim = arena_.shape().head_dim;
    scratch.keys.Reserve(kColumnTileRows * dim / 2);
    scratch.values.Reserve(kSegmentKeys * dim / 2);
    scratch.scores.Reserve(2 * kSegmentKeys * cpu::kColumnRows);
}

void PagedAttention::PackColumns(const WorkItem& item, Scratch& scratch) {
    columns_->pack_queries(QueryOf(item), item.rows, arena_.shape().head_dim, scratch.keys.data());
}

void PagedAttention::AttendColumns(const WorkItem& item, int64_t layer, int64_t segment,
                                   Scratch& scratch, const Partial& partial) {
    const int64_t dim = arena_.shape().head_dim;
    const int64_t first_key = segment * kSegmentKeys;
    const int64_t keys = std::min(kSegmentKeys, scratch.positions[item.rows - 1] + 1 - first_key);
    const int64_t groups = FindGroups(item, layer, segment, scratch.groups);
    const void** const next = scratch.groups + groups;
    const int64_t next_groups = FindNextGroups(item, layer, segment, scratch, next);
    const bool all_seen = keys % kPairKeys == 0 && scratch.positions[0] + 1 - first_key >= keys;
    if (!all_seen) {
        for (int64_t r = 0; r < PaddedRows(item.rows); ++r) {
            const int64_t last = scratch.positions[std::min(r, item.rows - 1)];
            scratch.seen[r] =
                static_cast<int32_t>(std::clamp<int64_t>(last + 1 - first_key, 0, keys));
        }
    }
    const bool is_finite = columns_->pack_values(scratch.groups + groups / 2, keys, dim,
                                                 scratch.values.data());
    const cpu::ColumnSegment columns = {
        .queries = scratch.keys.data(),
        .columns = PaddedRows(item.rows) / cpu::kColumnRows,
        .head_dim = dim,
        .count = keys,
        .keys = scratch.groups,
        .values = scratch.values.data(),
        .seen = all_seen ? nullptr : scratch.seen,
        .next = next,
        .next_groups = next_groups / 2,
        .scores = scratch.scores.data(),
        .result = ColumnOf(partial, 0)};
    if (is_finite || all_seen) return columns_->attend(columns);
    AttendColumnRows(item, columns, scratch);
}

void PagedAttention::AttendColumnRows(const WorkItem& item, cpu::ColumnSegment segment,
                                      Scratch& scratch) {
    const int64_t dim = arena_.shape().head_dim;
    const cpu::ColumnPartial all = segment.result;
    const int64_t groups = cpu::GroupsOf(segment.count);
    AlignedBuffer<float> column;
    column.Reserve(PartialFloats(cpu::kColumnRows, dim));
    segment.columns = 1;
    segment.next_groups = 0;
    segment.result = ColumnOf(PartialAt(column.data(), cpu::kColumnRows), 0);
    for (int64_t r = 0; r < item.rows; ++r) {
        const int64_t lane = r % cpu::kColumnRows;
        const int64_t first = r - lane;
        if (scratch.seen[r] > 0) {
            std::fill_n(scratch.values.data(), kSegmentKeys * dim / 2, 0.0f);
            columns_->pack_values(segment.keys + groups, scratch.seen[r], dim,
                                  scratch.values.data());
            segment.queries = scratch.keys.data() + first * dim / 2;
            segment.seen = scratch.seen + first;
            columns_->attend(segment);
        }
        const bool sees = scratch.seen[r] > 0;
        const float none = -std::numeric_limits<float>::infinity();
        all.maxima[r] = sees ? segment.result.maxima[lane] : none;
        all.sums[r] = sees ? segment.result.sums[lane] : 0.0f;
        float* values = all.values + first * dim;
        for (int64_t i = lane; i < dim * cpu::kColumnRows; i += cpu::kColumnRows) {
            values[i] = sees ? segment.result.values[i] : 0.0f;
        }
    }
}

void PagedAttention::MergeColumns(const WorkItem& item, const Partial& partial,
                                  const Partial& later) const {
    for (int64_t c = 0; c * cpu::kColumnRows < item.rows; ++c) {
        columns_->merge(ColumnOf(partial, c), ColumnOf(later, c), arena_.shape().head_dim);
    }
}

void PagedAttention::WriteColumns(const WorkItem& item, const Partial& partial, float* out) const {
    for (int64_t c = 0; c * cpu::kColumnRows < item.rows; ++c) {
        const int64_t first = c * cpu::kColumnRows;
        const int64_t rows = std::min(cpu::kColumnRows, item.rows - first);
        float* targets[cpu::kColumnRows];
        for (int64_t r = 0; r < rows; ++r) targets[r] = OutputOf(item, first + r, out);
        columns_->write(ColumnOf(partial, c), arena_.shape().head_dim, rows, targets);
    }
}

}  // namespace ucm
