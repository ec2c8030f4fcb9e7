#include "esa/sequence.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace ucm::esa {

Sequence::Sequence(std::shared_ptr<Prompt> prompt, const ArenaShape& shape, int64_t dense_layers,
                   std::span<const int32_t> block_ids)
    : prompt(std::move(prompt)),
      block_ids(block_ids.begin(), block_ids.end()),
      dense_layers_(dense_layers) {
    const auto heads = static_cast<std::size_t>(shape.num_layers * shape.num_query_heads);
    seen.queries.resize(heads * static_cast<std::size_t>(shape.head_dim));
    seen.maxima.resize(heads);
    seen.sums.resize(heads);
}

SparseRow Sequence::RowOf(int64_t index) {
    observed = true;
    return {.sequence = index,
            .first_slot = prompt->budget().init,
            .slots = entered ? slots.slots() : 0,
            .slot_blocks = slot_blocks.data(),
            .pieces = table.data(),
            .dense_layers = dense_layers_,
            .dense_slots = entered ? prompt->budget().candidates : 0,
            .dense_pieces = dense_pieces_.data(),
            .queries = seen.queries.data(),
            .maxima = seen.maxima.data(),
            .sums = seen.sums.data()};
}

void Sequence::Enter(const KvArena& arena, std::vector<int32_t> blocks, ThreadPool& pool) {
    entered = true;
    const int64_t layers = arena.shape().num_layers;
    slots = SlotMap(layers, static_cast<int64_t>(blocks.size()));
    slot_blocks = std::move(blocks);
    const auto first = block_ids.begin() + prompt->budget().init;
    for (std::size_t s = 0; s < slot_blocks.size(); ++s) {
        // A block that was none of its candidates holds none of them.
        const auto at = std::find(first, block_ids.end(), slot_blocks[s]);
        if (at == block_ids.end()) continue;
        for (int64_t layer = dense_layers_; layer < layers; ++layer) {
            slots.Put(layer, static_cast<int64_t>(s), static_cast<int32_t>(at - first));
        }
    }
    CopyDenseLayers(arena, pool);
    block_ids = {};
    chosen_by = seen.queries;
}

void Sequence::CopyDenseLayers(const KvArena& arena, ThreadPool& pool) {
    const SparseBudget& budget = prompt->budget();
    // Without the description behind it, which only ranking reads.
    const int64_t bytes = arena.description_offset();
    const int64_t pieces = dense_layers_ * budget.candidates;
    dense_.Reserve(pieces * bytes);
    dense_pieces_.resize(static_cast<std::size_t>(pieces));
    pool.Run(pieces, [&](int64_t i, int) {
        const int64_t layer = i / budget.candidates;
        const auto block = static_cast<std::size_t>(budget.init + i % budget.candidates);
        uint8_t* piece = dense_.data() + i * bytes;
        std::memcpy(piece, arena.Piece(block_ids[block], layer), static_cast<std::size_t>(bytes));
        dense_pieces_[static_cast<std::size_t>(i)] = piece;
    });
}

void Sequence::BuildTable(const KvArena& arena) {
    table.assign(static_cast<std::size_t>(dense_layers_ * slots.slots()), nullptr);
    for (int64_t layer = dense_layers_; layer < arena.shape().num_layers; ++layer) {
        for (const int32_t slot : slots.Order(layer)) {
            table.push_back(arena.Piece(slot_blocks[static_cast<std::size_t>(slot)], layer));
        }
    }
}

double Sequence::QueryCosine(const ArenaShape& shape) const {
    const auto dim = static_cast<std::size_t>(shape.head_dim);
    const std::size_t first = static_cast<std::size_t>(dense_layers_ * shape.num_query_heads) * dim;
    double sum = 0.0;
    for (std::size_t i = first; i < chosen_by.size(); i += dim) {
        float product = 0.0f;
        float now = 0.0f;
        float then = 0.0f;
        for (std::size_t d = i; d < i + dim; ++d) {
            product += seen.queries[d] * chosen_by[d];
            now += seen.queries[d] * seen.queries[d];
            then += chosen_by[d] * chosen_by[d];
        }
        const double norms = std::sqrt(static_cast<double>(now) * then);
        sum += norms > 0.0 ? product / norms : 1.0;
    }
    return sum / (static_cast<double>(chosen_by.size() - first) / static_cast<double>(dim));
}

}  // namespace ucm::esa
