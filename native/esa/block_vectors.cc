#include "esa/block_vectors.h"

#include <algorithm>

namespace ucm::esa {

BlockVectors BlockVectors::Keys(const KvArena& arena) {
    const int64_t block_size = arena.shape().block_size;
    return {arena, block_size, 1, arena.head_offset(0), block_size * arena.row_bytes()};
}

BlockVectors BlockVectors::Descriptions(const KvArena& arena) {
    const ArenaShape& shape = arena.shape();
    return {arena, shape.descriptions(), cpu::PartsOf(shape.representation.kind),
            arena.description_offset(), arena.descriptions_bytes()};
}

void BlockVectors::PackPanel(std::span<const int32_t> blocks, int64_t layer, int64_t kv_head,
                             int64_t panel, const cpu::TileKernels& tiles, float* out) const {
    const ArenaShape& shape = arena_->shape();
    const int64_t first = panel * cpu::kPanelKeys;
    const int64_t rows = static_cast<int64_t>(blocks.size()) * per_block_;
    const int64_t count = std::min(cpu::kPanelKeys, rows - first);
    const int64_t offset = offset_ + kv_head * head_bytes_;
    for (int64_t part = 0; part < parts_; ++part) {
        const void* vectors[cpu::kPanelKeys];
        for (int64_t i = 0; i < count; ++i) {
            const int64_t row = first + i;
            const int32_t block = blocks[static_cast<std::size_t>(row / per_block_)];
            vectors[i] = arena_->Piece(block, layer) + offset +
                         (row % per_block_ * parts_ + part) * arena_->row_bytes();
        }
        tiles.pack_keys({vectors, count, shape.dtype, shape.head_dim},
                        out + part * shape.head_dim / tiles.word_values * cpu::kPanelKeys);
    }
}

}  // namespace ucm::esa
