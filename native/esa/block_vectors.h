#pragma once

#include <cstdint>
#include <span>

#include "attention/kv_arena.h"
#include "cpu/kernels.h"

namespace ucm::esa {

/** The vectors by which blocks of the arena are scored: their keys, or their descriptions. */
class BlockVectors {
  public:
    static BlockVectors Keys(const KvArena& arena);
    static BlockVectors Descriptions(const KvArena& arena);

    /** Vectors of one block. */
    int64_t per_block() const { return per_block_; }
    /** Floats of one vector with all its parts. */
    int64_t depth() const { return parts_ * arena_->shape().head_dim; }
    /** The vectors [kPanelKeys * panel, …) of the blocks, transposed: [words of depth][kPanelKeys]. */
    void PackPanel(std::span<const int32_t> blocks, int64_t layer, int64_t kv_head, int64_t panel,
                   const cpu::TileKernels& tiles, float* out) const;

  private:
    BlockVectors(const KvArena& arena, int64_t per_block, int64_t parts, int64_t offset,
                 int64_t head_bytes)
        : arena_(&arena),
          per_block_(per_block),
          parts_(parts),
          offset_(offset),
          head_bytes_(head_bytes) {}

    const KvArena* arena_;
    int64_t per_block_;
    int64_t parts_;
    /** Of the first head's vectors in a piece, and from head to head. */
    int64_t offset_;
    int64_t head_bytes_;
};

}  // namespace ucm::esa
