#include "attention/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ucm {
namespace {

/** Multiply-adds below which waking the pool costs more than it saves. */
constexpr int64_t kInlineCost = 500'000;
/** Rows prepared by one task. */
constexpr int64_t kRowsPerTask = 16;

int64_t RoundUp(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

Status PagedAttention::BeginStep(const BatchView& batch) {
    const int64_t most_rows = columns_ != nullptr ? kColumnTileRows : kPanelTileRows;
    UCM_RETURN_IF_ERROR(
        step_.Build(arena_.shape(), rope_, batch, pool_.threads(), most_rows));
    ReserveScratch();
    return Status::Ok();
}

void PagedAttention::ReserveScratch() {
    const ArenaShape& shape = arena_.shape();
    const int64_t padded = PaddedHeadDim(shape.head_dim);
    scratch_.resize(static_cast<std::size_t>(pool_.threads()));
    const int64_t rows = columns_ != nullptr ? kColumnTileRows : kPanelTileRows;
    for (Scratch& scratch : scratch_) {
        scratch.result.Reserve(PartialFloats(rows, shape.head_dim));
        scratch.segment_result.Reserve(PartialFloats(rows, shape.head_dim));
        if (columns_ != nullptr) {
            ReserveColumns(scratch);
        } else {
            scratch.keys.Reserve(shape.head_dim * cpu::kPanelKeys);
            scratch.values.Reserve(cpu::kPanelKeys * padded);
            scratch.scores.Reserve(rows * kScoreStride);
        }
    }
    queries_.Reserve(step_.rows() * shape.num_query_heads * shape.head_dim);
    if (tiles_.word_values > 1) {
        query_words_.Reserve(step_.rows() * shape.num_query_heads * shape.head_dim /
                             tiles_.word_values);
    }
    partials_.Reserve(step_.partial_floats());
    parts_left_ = std::make_unique<std::atomic<int64_t>[]>(step_.splits());
}

void PagedAttention::Forward(const LayerInput& input, float* out) {
    // The pool may have grown since the step began.
    if (static_cast<int>(scratch_.size()) < pool_.threads()) ReserveScratch();
    const WorkList& work = step_.work(input.layer);
    for (std::size_t i = 0; i < work.splits.size(); ++i) {
        parts_left_[i].store(work.splits[i].parts, std::memory_order_relaxed);
    }
    const auto prepare = [&](int64_t task, int) {
        float head[256];
        const int64_t end = std::min(step_.rows(), (task + 1) * kRowsPerTask);
        for (int64_t row = task * kRowsPerTask; row < end; ++row) PrepareRow(input, row, head);
    };
    const bool describes = arena_.shape().descriptions() > 0;
    const std::span<const int32_t> filled =
        describes ? step_.filled_blocks() : std::span<const int32_t>();
    const std::size_t count = work.items.size() + filled.size();
    next_item_.store(0, std::memory_order_relaxed);
    const auto attend = [&](int64_t, int thread) {
        Scratch& scratch = scratch_[static_cast<std::size_t>(thread)];
        for (;;) {
            ClaimFollowing(scratch);
            const std::size_t task = *std::exchange(scratch.following, std::nullopt);
            if (task >= count) return;
            if (task < work.items.size()) {
                RunItem(work.items[task], input.layer, scratch, out);
            } else {
                DescribeBlock(filled[task - work.items.size()], input.layer);
            }
        }
    };
    const int64_t tasks = RoundUp(step_.rows(), kRowsPerTask) / kRowsPerTask;
    // All keys and values are written before any row attends: a sequence may read blocks that
    // another one fills in this step.
    pool_.Run(tasks, prepare);
    pool_.Run(work.cost < kInlineCost ? 1 : pool_.threads(), attend);
}

/** Norms, rotates and scales the row's queries; norms, rotates and writes its keys; writes its
 * values. */
void PagedAttention::PrepareRow(const LayerInput& input, int64_t row, float* head) {
    const ArenaShape& shape = arena_.shape();
    const int64_t dim = shape.head_dim;
    const int64_t group = shape.group_size();
    const SequenceSpan& sequence =
        step_.sequences()[static_cast<std::size_t>(step_.row_sequence(row))];
    const int64_t position = sequence.first_position + row - sequence.first_row;
    const int64_t table_index = sequence.first_block + position / shape.block_size;
    const int64_t block = step_.block_ids()[static_cast<std::size_t>(table_index)];
    const int64_t slot_offset = position % shape.block_size * arena_.row_bytes();
    cpu::HeadInput item = {nullptr,           dim,
                           input.q_norm,      input.norm_eps,
                           step_.cos(row),    step_.sin(row),
                           step_.rope_half(), 1.0f / std::sqrt(static_cast<float>(dim))};
    for (int64_t h = 0; h < shape.num_query_heads; ++h) {
        item.x = input.q + row * input.q_stride + h * dim;
        const int64_t index = (h / group * step_.rows() + row) * group + h % group;
        float* query = queries_.data() + index * dim;
        kernels_.prepare_head(item, query);
        if (tiles_.word_values > 1) {
            kernels_.from_float(shape.dtype, query,
                                query_words_.data() + index * dim / tiles_.word_values, dim);
        }
    }
    item.norm_weight = input.k_norm;
    item.scale = 1.0f;
    for (int64_t h = 0; h < shape.num_kv_heads; ++h) {
        uint8_t* key = arena_.Keys(block, input.layer, h) + slot_offset;
        item.x = input.k + row * input.k_stride + h * dim;
        kernels_.prepare_head(item, head);
        kernels_.from_float(shape.dtype, head, key, dim);
        const float* value = input.v + row * input.v_stride + h * dim;
        kernels_.from_float(shape.dtype, value, key + arena_.value_offset(), dim);
    }
    if (sequence.sparse != nullptr) KeepQueries(*sequence.sparse, input.layer, row);
}

void PagedAttention::KeepQueries(const SparseRow& sparse, int64_t layer, int64_t row) const {
    const ArenaShape& shape = arena_.shape();
    const int64_t size = shape.group_size() * shape.head_dim;
    float* kept = sparse.queries + layer * shape.num_kv_heads * size;
    for (int64_t h = 0; h < shape.num_kv_heads; ++h) {
        const float* queries = queries_.data() + (h * step_.rows() + row) * size;
        std::copy(queries, queries + size, kept + h * size);
    }
}

void PagedAttention::DescribeBlock(int64_t block, int64_t layer) const {
    const ArenaShape& shape = arena_.shape();
    const int64_t tokens = shape.representation.tokens;
    const int64_t floats = cpu::PartsOf(shape.representation.kind) * shape.head_dim;
    uint8_t* out = arena_.Piece(block, layer) + arena_.description_offset();
    float description[2 * 256];
    for (int64_t h = 0; h < shape.num_kv_heads; ++h) {
        const uint8_t* keys = arena_.Keys(block, layer, h);
        for (int64_t i = 0; i < shape.descriptions(); ++i) {
            kernels_.describe_keys(shape.representation.kind, shape.dtype,
                                   keys + i * tokens * arena_.row_bytes(), tokens, shape.head_dim,
                                   description);
            kernels_.from_float(shape.dtype, description, out, floats);
            out += floats * BytesOf(shape.dtype);
        }
    }
}

const uint8_t* PagedAttention::PieceAt(const SequenceSpan& sequence, int64_t layer,
                                       int64_t index) const {
    if (const SparseRow* sparse = sequence.sparse; sparse != nullptr) {
        const int64_t slot = index - sparse->first_slot;
        const int64_t slots = sparse->SlotsAt(layer);
        if (slot >= 0 && slot < slots) return sparse->PieceAt(layer, slot);
        if (slot >= slots) index -= slots - sparse->slots;
    }
    const int64_t block = step_.block_ids()[static_cast<std::size_t>(sequence.first_block + index)];
    return arena_.Piece(block, layer);
}

PagedAttention::Partial PagedAttention::PartialAt(float* floats, int64_t rows) const {
    const int64_t padded = PaddedRows(rows);
    float* maxima = floats + padded * PaddedHeadDim(arena_.shape().head_dim);
    return {floats, maxima, maxima + padded};
}

const float* PagedAttention::QueryOf(const WorkItem& item) {
    const ArenaShape& shape = arena_.shape();
    const SequenceSpan& sequence = step_.sequences()[static_cast<std::size_t>(item.sequence)];
    const int64_t first = item.kv_head * step_.rows() + sequence.first_row;
    const AlignedBuffer<float>& queries = tiles_.word_values > 1 ? query_words_ : queries_;
    return queries.data() + (first * shape.group_size() + item.row_begin) * shape.head_dim /
                                tiles_.word_values;
}

cpu::RowList PagedAttention::FindRows(const WorkItem& item, int64_t layer, Plane plane,
                                      int64_t position, int64_t count, const void** rows) const {
    const int64_t block_size = arena_.shape().block_size;
    const int64_t row_bytes = arena_.row_bytes();
    const int64_t offset = arena_.head_offset(item.kv_head) +
                           (plane == Plane::kValues ? arena_.value_offset() : 0);
    const SequenceSpan& sequence = step_.sequences()[static_cast<std::size_t>(item.sequence)];
    for (int64_t i = 0; i < count;) {
        // A block size is a power of two; divisions would cost more than the multiplications.
        const int64_t slot = (position + i) & (block_size - 1);
        const uint8_t* row = PieceAt(sequence, layer, (position + i) >> block_shift_) + offset +
                             slot * row_bytes;
        const int64_t end = std::min(count, i + block_size - slot);
        for (; i < end; ++i, row += row_bytes) rows[i] = row;
    }
    return {rows, count, arena_.shape().dtype, arena_.shape().head_dim};
}

cpu::RowList PagedAttention::FindNextPanel(const WorkItem& item, int64_t layer, Plane plane,
                                           int64_t position, int64_t count,
                                           Scratch& scratch) const {
    // A segment's keys are read first, then its values, then the next segment's keys.
    const int64_t visible = scratch.positions[item.rows - 1] + 1;
    const int64_t segment = position / kSegmentKeys * kSegmentKeys;
    const int64_t segment_end = std::min(segment + kSegmentKeys, visible);
    int64_t next = position + count;
    if (next == segment_end) {
        if (plane == Plane::kKeys) next = segment;
        plane = plane == Plane::kKeys ? Plane::kValues : Plane::kKeys;
    }
    const int other = scratch.panel.rows == scratch.rows[0] ? 1 : 0;
    return FindRows(item, layer, plane, next, std::min(cpu::kPanelKeys, visible - next),
                    scratch.rows[other]);
}

void PagedAttention::RunItem(const WorkItem& item, int64_t layer, Scratch& scratch, float* out) {
    for (int64_t r = 0; r < item.rows; ++r) scratch.positions[r] = PositionOf(item, r);
    if (columns_ != nullptr) {
        PackColumns(item, scratch);
    } else if (!AttendsToken(item)) {
        const int64_t first = item.segment_begin * kSegmentKeys;
        const int64_t visible = scratch.positions[item.rows - 1] + 1;
        scratch.panel = FindRows(item, layer, Plane::kKeys, first,
                                 std::min(cpu::kPanelKeys, visible - first), scratch.rows[0]);
    }
    if (item.split >= 0) {
        const SplitTile& split = step_.work(layer).splits[static_cast<std::size_t>(item.split)];
        const int64_t stride = PartialFloats(item.rows, arena_.shape().head_dim);
        float* partials = partials_.data() + split.partial_offset;
        for (int64_t s = item.segment_begin; s < item.segment_end; ++s) {
            ComputeSegment(item, layer, s, scratch, PartialAt(partials + s * stride, item.rows));
        }
        auto& left = parts_left_[static_cast<std::size_t>(item.split)];
        if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) MergeSplit(split, layer, out);
        return;
    }
    const Partial result = PartialAt(scratch.result.data(), item.rows);
    const Partial later = PartialAt(scratch.segment_result.data(), item.rows);
    for (int64_t s = 0; s < item.segment_end; ++s) {
        ComputeSegment(item, layer, s, scratch, s == 0 ? result : later);
        if (s > 0) MergeSegment(item, s, result, later);
    }
    WriteResult(item, layer, result, out);
}

/** One segment's maxima, sums and weighted values for all rows of the item that see any of it. */
void PagedAttention::ComputeSegment(const WorkItem& item, int64_t layer, int64_t segment,
                                    Scratch& scratch, const Partial& partial) {
    if (columns_ != nullptr) return AttendColumns(item, layer, segment, scratch, partial);
    if (AttendsToken(item)) return ComputeTokenSegment(item, layer, segment, scratch, partial);
    const int64_t first_key = segment * kSegmentKeys;
    const int64_t keys = std::min(kSegmentKeys, scratch.positions[item.rows - 1] + 1 - first_key);
    ComputeScores(item, layer, first_key, keys, scratch);
    for (int64_t r = 0; r < item.rows; ++r) {
        // Clamped per row: what lies behind a row's own position never reaches its result.
        const int64_t seen = std::min(keys, scratch.positions[r] + 1 - first_key);
        if (seen <= 0) continue;
        tiles_.softmax(scratch.scores.data() + r * kScoreStride, seen, &partial.maxima[r],
                       &partial.sums[r]);
    }
    ComputeValues(item, layer, first_key, keys, scratch, partial.values);
}

bool PagedAttention::AttendsToken(const WorkItem& item) const {
    const ArenaShape& shape = arena_.shape();
    return tiles_.attend_token != nullptr && item.rows <= cpu::kMaxTokenRows &&
           (shape.head_dim == 64 || shape.head_dim == 128) &&
           shape.block_size >= cpu::kGroupKeys &&
           PositionOf(item, 0) == PositionOf(item, item.rows - 1);
}

int64_t PagedAttention::FindGroups(const WorkItem& item, int64_t layer, int64_t segment,
                                   const void** groups) const {
    const int64_t first_key = segment * kSegmentKeys;
    const int64_t visible = PositionOf(item, item.rows - 1) + 1;
    const int64_t count = cpu::GroupsOf(std::min(kSegmentKeys, visible - first_key));
    const SequenceSpan& sequence = step_.sequences()[static_cast<std::size_t>(item.sequence)];
    const int64_t in_block = arena_.shape().block_size - 1;
    for (int64_t g = 0; g < count; ++g) {
        const int64_t position = first_key + g * cpu::kGroupKeys;
        const uint8_t* keys_of_group = PieceAt(sequence, layer, position >> block_shift_) +
                                       arena_.head_offset(item.kv_head) +
                                       (position & in_block) * arena_.row_bytes();
        groups[g] = keys_of_group;
        groups[count + g] = keys_of_group + arena_.value_offset();
    }
    return 2 * count;
}

int64_t PagedAttention::FindNextGroups(const WorkItem& item, int64_t layer, int64_t segment,
                                       Scratch& scratch, const void** groups) {
    if (segment + 1 < item.segment_end) return FindGroups(item, layer, segment + 1, groups);
    ClaimFollowing(scratch);
    const std::vector<WorkItem>& items = step_.work(layer).items;
    if (*scratch.following >= items.size()) return 0;
    const WorkItem& following = items[*scratch.following];
    if (columns_ == nullptr && !AttendsToken(following)) return 0;
    return FindGroups(following, layer, following.segment_begin, groups);
}

void PagedAttention::ComputeTokenSegment(const WorkItem& item, int64_t layer, int64_t segment,
                                         Scratch& scratch, const Partial& partial) {
    const int64_t dim = arena_.shape().head_dim;
    const int64_t first_key = segment * kSegmentKeys;
    int64_t count = FindGroups(item, layer, segment, scratch.groups);
    const int64_t end = count + cpu::kTokenLookahead;
    count += FindNextGroups(item, layer, segment, scratch, scratch.groups + count);
    // To fetch again what was read last costs nothing.
    std::fill(scratch.groups + count, scratch.groups + end, scratch.groups[count - 1]);
    tiles_.attend_token({.queries = QueryOf(item),
                         .rows = item.rows,
                         .head_dim = dim,
                         .count = std::min(kSegmentKeys, scratch.positions[0] + 1 - first_key),
                         .groups = scratch.groups,
                         .scores = scratch.scores.data(),
                         .score_stride = kScoreStride,
                         .values = partial.values,
                         .value_stride = PaddedHeadDim(dim),
                         .maxima = partial.maxima,
                         .sums = partial.sums});
}

void PagedAttention::ComputeScores(const WorkItem& item, int64_t layer, int64_t first_key,
                                   int64_t keys, Scratch& scratch) {
    const int64_t dim = arena_.shape().head_dim;
    for (int64_t key = 0; key < keys; key += cpu::kPanelKeys) {
        const int64_t count = scratch.panel.count;
        const cpu::RowList next =
            FindNextPanel(item, layer, Plane::kKeys, first_key + key, count, scratch);
        tiles_.pack_keys(scratch.panel, scratch.keys.data());
        tiles_.multiply(
            {.a = QueryOf(item),
             .lda = dim / tiles_.word_values,
             .b = scratch.keys.data(),
             .ldb = cpu::kPanelKeys,
             .c = scratch.scores.data() + key,
             .ldc = kScoreStride,
             .rows = item.rows,
             .columns = RoundUp(count, kernels_.width),
             .depths = nullptr,
             .depth = dim,
             .accumulate = false,
             .next = next});
        scratch.panel = next;
    }
}

void PagedAttention::ComputeValues(const WorkItem& item, int64_t layer, int64_t first_key,
                                   int64_t keys, Scratch& scratch, float* values) {
    const int64_t dim = arena_.shape().head_dim;
    const int64_t padded = PaddedHeadDim(dim);
    for (int64_t key = 0; key < keys; key += cpu::kPanelKeys) {
        const int64_t count = scratch.panel.count;
        const cpu::RowList next =
            FindNextPanel(item, layer, Plane::kValues, first_key + key, count, scratch);
        tiles_.pack_values(scratch.panel, scratch.values.data(), padded);
        for (int64_t r = 0; r < item.rows; ++r) {
            const int64_t seen = scratch.positions[r] + 1 - first_key - key;
            scratch.depths[r] = static_cast<int32_t>(std::clamp<int64_t>(seen, 0, count));
        }
        tiles_.multiply({.a = scratch.scores.data() + key / tiles_.word_values,
                         .lda = kScoreStride,
                         .b = scratch.values.data(),
                         .ldb = padded,
                         .c = values,
                         .ldc = padded,
                         .rows = item.rows,
                         .columns = padded,
                         .depths = scratch.depths,
                         .depth = 0,
                         .accumulate = key > 0,
                         .next = next});
        scratch.panel = next;
    }
}

void PagedAttention::MergeSegment(const WorkItem& item, int64_t segment, const Partial& partial,
                                  const Partial& later) {
    if (columns_ != nullptr) return MergeColumns(item, partial, later);
    const int64_t dim = arena_.shape().head_dim;
    const int64_t padded = PaddedHeadDim(dim);
    for (int64_t r = 0; r < item.rows; ++r) {
        if (PositionOf(item, r) < segment * kSegmentKeys) continue;
        kernels_.merge(partial.values + r * padded, &partial.maxima[r], &partial.sums[r],
                       later.values + r * padded, later.maxima[r], later.sums[r], dim);
    }
}

/** Merges the segments of a split tile in position order, on the thread that finished it. */
void PagedAttention::MergeSplit(const SplitTile& split, int64_t layer, float* out) {
    const WorkItem& tile = split.whole;
    const int64_t stride = PartialFloats(tile.rows, arena_.shape().head_dim);
    float* partials = partials_.data() + split.partial_offset;
    const Partial result = PartialAt(partials, tile.rows);
    for (int64_t s = 1; s < tile.segment_end; ++s) {
        MergeSegment(tile, s, result, PartialAt(partials + s * stride, tile.rows));
    }
    WriteResult(tile, layer, result, out);
}

float* PagedAttention::OutputOf(const WorkItem& item, int64_t row, float* out) const {
    const ArenaShape& shape = arena_.shape();
    const int64_t group = shape.group_size();
    const SequenceSpan& sequence = step_.sequences()[static_cast<std::size_t>(item.sequence)];
    const int64_t tile_row = item.row_begin + row;
    const int64_t token = sequence.first_row + tile_row / group;
    const int64_t head = item.kv_head * group + tile_row % group;
    return out + (token * shape.num_query_heads + head) * shape.head_dim;
}

void PagedAttention::WriteResult(const WorkItem& item, int64_t layer, const Partial& partial,
                                 float* out) {
    const ArenaShape& shape = arena_.shape();
    const int64_t dim = shape.head_dim;
    if (columns_ != nullptr) {
        WriteColumns(item, partial, out);
    } else {
        for (int64_t r = 0; r < item.rows; ++r) {
            kernels_.scale(partial.values + r * PaddedHeadDim(dim), 1.0f / partial.sums[r],
                           OutputOf(item, r, out), dim);
        }
    }
    const SequenceSpan& sequence = step_.sequences()[static_cast<std::size_t>(item.sequence)];
    if (const SparseRow* sparse = sequence.sparse; sparse != nullptr) {
        // A sparse sequence has one row: its heads are those of the item, from row_begin on.
        const int64_t first = layer * shape.num_query_heads +
                              item.kv_head * shape.group_size() + item.row_begin;
        std::copy_n(partial.maxima, item.rows, sparse->maxima + first);
        std::copy_n(partial.sums, item.rows, sparse->sums + first);
    }
}

}  // namespace ucm
