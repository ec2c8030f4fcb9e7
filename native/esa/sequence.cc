#include "esa/sequence.h"

#include <cmath>
#include <utility>

namespace ucm::esa {

Sequence::Sequence(std::shared_ptr<Prompt> prompt, const ArenaShape& shape,
                   std::span<const int32_t> block_ids)
    : prompt(std::move(prompt)), block_ids(block_ids.begin(), block_ids.end()) {
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
            .queries = seen.queries.data(),
            .maxima = seen.maxima.data(),
            .sums = seen.sums.data()};
}

void Sequence::Enter(const ArenaShape& shape, std::vector<int32_t> blocks) {
    entered = true;
    slots = SlotMap(shape.num_layers, static_cast<int64_t>(blocks.size()));
    slot_blocks = std::move(blocks);
    block_ids = {};
    chosen_by = seen.queries;
}

void Sequence::BuildTable(const KvArena& arena) {
    table.clear();
    for (int64_t layer = 0; layer < arena.shape().num_layers; ++layer) {
        for (const int32_t slot : slots.Order(layer)) {
            table.push_back(arena.Piece(slot_blocks[static_cast<std::size_t>(slot)], layer));
        }
    }
}

double Sequence::QueryCosine(int64_t head_dim) const {
    const auto dim = static_cast<std::size_t>(head_dim);
    double sum = 0.0;
    for (std::size_t i = 0; i < chosen_by.size(); i += dim) {
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
    return sum / (static_cast<double>(chosen_by.size()) / static_cast<double>(dim));
}

}  // namespace ucm::esa
