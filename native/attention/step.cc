#include "attention/step.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace ucm {
namespace {

/** Work items per thread to aim at, so that threads end at about the same time. */
constexpr int64_t kItemsPerThread = 4;
constexpr int64_t kMinTileRows = 24;

std::string Element(const char* name, std::size_t index, int64_t value) {
    return std::string("beginStep: ") + name + "[" + std::to_string(index) + "] is " +
           std::to_string(value);
}

/** An array of sequences + 1 offsets from 0 upwards, each at least `step` above the last. */
Status CheckOffsets(const char* name, std::span<const int32_t> offsets, std::size_t sequences,
                    int32_t step) {
    if (offsets.size() != sequences + 1) {
        return Status::InvalidArgument(std::string("beginStep: ") + name + " has " +
                                       std::to_string(offsets.size()) + " elements, expected " +
                                       std::to_string(sequences + 1));
    }
    if (offsets[0] != 0) {
        return Status::InvalidArgument(Element(name, 0, offsets[0]) + ", expected 0");
    }
    for (std::size_t i = 1; i < offsets.size(); ++i) {
        if (int64_t{offsets[i]} - offsets[i - 1] < step) {
            return Status::InvalidArgument(Element(name, i, offsets[i]) + ", expected at least " +
                                           std::to_string(int64_t{offsets[i - 1]} + step));
        }
    }
    return Status::Ok();
}

int64_t CeilDiv(int64_t a, int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

/** Keys that the last row of the tile sees. */
int64_t VisibleKeys(const ArenaShape& shape, const WorkItem& tile) {
    return tile.first_position + (tile.row_begin + tile.rows - 1) / shape.group_size() + 1;
}

/** Adds the tile as one item, or split by segments when it costs more than `target_cost` pairs. */
void AddTile(const ArenaShape& shape, const WorkItem& tile, int64_t target_cost, WorkList* work) {
    const int64_t cost = tile.rows * VisibleKeys(shape, tile);
    const int64_t segments = tile.segment_end;
    const int64_t parts = std::min(segments, CeilDiv(cost, target_cost));
    if (parts <= 1) {
        work->items.push_back(tile);
        return;
    }
    for (int64_t part = 0; part < parts; ++part) {
        WorkItem item = tile;
        item.segment_begin = part * segments / parts;
        item.segment_end = (part + 1) * segments / parts;
        item.split = static_cast<int64_t>(work->splits.size());
        work->items.push_back(item);
    }
    work->splits.push_back({tile, parts, work->partial_floats});
    work->partial_floats += segments * PartialFloats(tile.rows, shape.head_dim);
}

}  // namespace

Status Step::Build(const ArenaShape& shape, const Rope& rope, const BatchView& batch, int threads,
                   int64_t most_rows) {
    rows_ = 0;
    UCM_RETURN_IF_ERROR(CheckSequences(shape, batch));
    UCM_RETURN_IF_ERROR(CheckSparse(shape, batch));
    UCM_RETURN_IF_ERROR(CheckWrites(shape));
    const SequenceSpan& last = sequences_.back();
    rows_ = last.first_row + last.rows;
    row_sequence_.clear();
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
        row_sequence_.insert(row_sequence_.end(), static_cast<std::size_t>(sequences_[s].rows),
                             static_cast<int32_t>(s));
    }
    FindFilledBlocks(shape);
    BuildRotations(rope);
    BuildWork(shape, threads, most_rows, shape.num_layers, &work_);
    dense_work_ = {};
    if (dense_layers_ > 0) BuildWork(shape, threads, most_rows, 0, &dense_work_);
    return Status::Ok();
}

Status Step::CheckSequences(const ArenaShape& shape, const BatchView& batch) {
    const std::size_t count = batch.context_lens.size();
    if (count == 0) return Status::InvalidArgument("beginStep: contextLens is empty");
    UCM_RETURN_IF_ERROR(CheckOffsets("queryStart", batch.query_start, count, 1));
    UCM_RETURN_IF_ERROR(CheckOffsets("blockStart", batch.block_start, count, 0));
    if (static_cast<std::size_t>(batch.block_start[count]) > batch.block_ids.size()) {
        return Status::InvalidArgument(Element("blockStart", count, batch.block_start[count]) +
                                       ", but blockIds has " +
                                       std::to_string(batch.block_ids.size()) + " elements");
    }
    block_ids_.assign(batch.block_ids.begin(), batch.block_ids.begin() + batch.block_start[count]);
    for (std::size_t i = 0; i < block_ids_.size(); ++i) {
        if (block_ids_[i] < 0 || block_ids_[i] >= shape.num_blocks) {
            return Status::InvalidArgument(Element("blockIds", i, block_ids_[i]) +
                                           ", expected 0 to " +
                                           std::to_string(shape.num_blocks - 1));
        }
    }
    sequences_.clear();
    for (std::size_t s = 0; s < count; ++s) {
        const int64_t rows = batch.query_start[s + 1] - batch.query_start[s];
        const int64_t blocks = batch.block_start[s + 1] - batch.block_start[s];
        const int64_t length = batch.context_lens[s];
        if (length < rows || length > blocks * shape.block_size) {
            return Status::InvalidArgument(Element("contextLens", s, length) + ", expected from " +
                                           std::to_string(rows) + " (its rows) to " +
                                           std::to_string(blocks * shape.block_size) + " (its " +
                                           std::to_string(blocks) + " blocks of " +
                                           std::to_string(shape.block_size) + " tokens)");
        }
        const int64_t position = length - rows;
        sequences_.push_back(
            {batch.query_start[s], rows, position, batch.block_start[s], position, nullptr});
    }
    return Status::Ok();
}

Status Step::CheckSparse(const ArenaShape& shape, const BatchView& batch) {
    if (!batch.positions.empty()) {
        if (batch.positions.size() != sequences_.size()) {
            return Status::InvalidArgument("beginStep: sparse.positions has " +
                                           std::to_string(batch.positions.size()) +
                                           " elements, expected " +
                                           std::to_string(sequences_.size()));
        }
        for (std::size_t s = 0; s < sequences_.size(); ++s) {
            if (batch.positions[s] < sequences_[s].first_position) {
                return Status::InvalidArgument(
                    Element("sparse.positions", s, batch.positions[s]) + ", expected at least " +
                    std::to_string(sequences_[s].first_position) + ", its place in the table");
            }
            sequences_[s].true_position = batch.positions[s];
        }
    }
    sparse_.assign(batch.sparse.begin(), batch.sparse.end());
    dense_layers_ = sparse_.empty() ? 0 : sparse_.front().dense_layers;
    for (const SparseRow& sparse : sparse_) {
        SequenceSpan& sequence = sequences_[static_cast<std::size_t>(sparse.sequence)];
        const int64_t slots_end = (sparse.first_slot + sparse.slots) * shape.block_size;
        if (sequence.rows != 1 || (sparse.slots > 0 && sequence.first_position < slots_end)) {
            return Status::InvalidArgument(
                "beginStep: sequence " + std::to_string(sparse.sequence) + " has " +
                std::to_string(sequence.rows) + " rows from place " +
                std::to_string(sequence.first_position) +
                ", expected one row behind its sparse slots, which end at " +
                std::to_string(slots_end));
        }
        const auto table = block_ids_.begin() + sequence.first_block + sparse.first_slot;
        if (!std::equal(sparse.slot_blocks, sparse.slot_blocks + sparse.slots, table)) {
            return Status::InvalidArgument(
                "beginStep: the blocks of sequence " + std::to_string(sparse.sequence) +
                " from its place " + std::to_string(sparse.first_slot) +
                " on are not its sparse slots");
        }
        if (sparse.dense_layers != dense_layers_) {
            return Status::InvalidArgument("beginStep: sequence " +
                                           std::to_string(sparse.sequence) + " has " +
                                           std::to_string(sparse.dense_layers) +
                                           " dense layers, others have " +
                                           std::to_string(dense_layers_));
        }
        sequence.sparse = &sparse;
    }
    return Status::Ok();
}

void Step::FindFilledBlocks(const ArenaShape& shape) {
    filled_blocks_.clear();
    for (const SequenceSpan& sequence : sequences_) {
        const int64_t first = sequence.first_position / shape.block_size;
        const int64_t end = (sequence.first_position + sequence.rows) / shape.block_size;
        const auto table = block_ids_.begin() + sequence.first_block;
        filled_blocks_.insert(filled_blocks_.end(), table + first, table + end);
    }
}

/** A block that one sequence writes belongs to no other writer: two would race and corrupt it. */
Status Step::CheckWrites(const ArenaShape& shape) {
    writer_.resize(static_cast<std::size_t>(shape.num_blocks), 0);
    Status status;
    const auto for_written_blocks = [&](auto visit) {
        for (std::size_t s = 0; s < sequences_.size(); ++s) {
            const SequenceSpan& sequence = sequences_[s];
            const int64_t first = sequence.first_position / shape.block_size;
            const int64_t end = CeilDiv(sequence.first_position + sequence.rows, shape.block_size);
            for (int64_t b = first; b < end; ++b) {
                const int32_t block =
                    block_ids_[static_cast<std::size_t>(sequence.first_block + b)];
                visit(s, block, writer_[static_cast<std::size_t>(block)]);
            }
        }
    };
    for_written_blocks([&](std::size_t s, int32_t block, int32_t& writer) {
        if (writer != 0 && status.ok()) {
            status = Status::InvalidArgument(
                "beginStep: block " + std::to_string(block) + " is written by sequence " +
                std::to_string(writer - 1) + " and again by sequence " + std::to_string(s) +
                "; each written block needs one owner");
        }
        writer = static_cast<int32_t>(s) + 1;
    });
    for_written_blocks([](std::size_t, int32_t, int32_t& writer) { writer = 0; });
    return status;
}

void Step::BuildRotations(const Rope& rope) {
    rope_half_ = static_cast<int64_t>(rope.inv_freq.size());
    cos_.resize(static_cast<std::size_t>(rows_ * rope_half_));
    sin_.resize(static_cast<std::size_t>(rows_ * rope_half_));
    std::size_t at = 0;
    for (const SequenceSpan& sequence : sequences_) {
        for (int64_t row = 0; row < sequence.rows; ++row) {
            const double position = static_cast<double>(sequence.true_position + row);
            for (const double frequency : rope.inv_freq) {
                cos_[at] = static_cast<float>(std::cos(position * frequency) * rope.scale);
                sin_[at] = static_cast<float>(std::sin(position * frequency) * rope.scale);
                ++at;
            }
        }
    }
}

/**
 * Cuts a layer into work items. Only balance depends on this: neither the height of a tile nor who
 * computes which segment changes a row's bits.
 */
void Step::BuildWork(const ArenaShape& shape, int threads, int64_t most_rows, int64_t layer,
                     WorkList* work) const {
    *work = {};
    const auto position_at = [&](const SequenceSpan& sequence) {
        const SparseRow* sparse = sequence.sparse;
        const int64_t more = sparse == nullptr ? 0 : sparse->SlotsAt(layer) - sparse->slots;
        return sequence.first_position + more * shape.block_size;
    };
    int64_t tile_rows = most_rows;
    const auto count_tiles = [&] {
        int64_t tiles = 0;
        for (const SequenceSpan& sequence : sequences_) {
            tiles += shape.num_kv_heads * CeilDiv(sequence.rows * shape.group_size(), tile_rows);
        }
        return tiles;
    };
    if (threads > 1) {
        while (tile_rows > kMinTileRows && count_tiles() < kItemsPerThread * threads) {
            tile_rows /= 2;
        }
    }
    int64_t pairs = 0;
    for (const SequenceSpan& sequence : sequences_) {
        pairs += sequence.rows * (2 * position_at(sequence) + sequence.rows + 1) / 2;
    }
    pairs *= shape.num_query_heads;
    work->cost = 2 * pairs * shape.head_dim;
    const int64_t target = threads > 1 ? pairs / (kItemsPerThread * threads) + 1 : INT64_MAX;
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
        const int64_t rows = sequences_[s].rows * shape.group_size();
        for (int64_t head = 0; head < shape.num_kv_heads; ++head) {
            for (int64_t row = 0; row < rows; row += tile_rows) {
                WorkItem tile = {.sequence = static_cast<int64_t>(s),
                                 .first_position = position_at(sequences_[s]),
                                 .kv_head = head,
                                 .row_begin = row,
                                 .rows = std::min(tile_rows, rows - row),
                                 .segment_begin = 0,
                                 .segment_end = 0,
                                 .split = -1};
                tile.segment_end = CeilDiv(VisibleKeys(shape, tile), kSegmentKeys);
                AddTile(shape, tile, target, work);
            }
        }
    }
    // Longest first, so that no thread starts a long item when the others are done.
    const auto segments = [](const WorkItem& item) {
        return item.rows * (item.segment_end - item.segment_begin);
    };
    std::stable_sort(
        work->items.begin(), work->items.end(),
        [&](const WorkItem& a, const WorkItem& b) { return segments(a) > segments(b); });
}

}  // namespace ucm
