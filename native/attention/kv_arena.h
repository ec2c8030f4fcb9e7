#pragma once

#include <cstdint>
#include <memory>

#include "common/dtype.h"
#include "common/status.h"
#include "cpu/kernels.h"

namespace ucm {

/** What the arena keeps of each full block for sparse attention. */
struct RepresentationShape {
    cpu::Representation kind = cpu::Representation::kNone;
    /** Keys that one description stands for: a power of two from 8 up to the block size. */
    int64_t tokens = 0;
};

/** Shape of a KV cache. */
struct ArenaShape {
    int64_t num_blocks;
    int64_t num_layers;
    /** Tokens per block: a power of two from 8 to 256. */
    int64_t block_size;
    int64_t num_query_heads;
    int64_t num_kv_heads;
    /** 32 to 256, a multiple of 8. */
    int64_t head_dim;
    Dtype dtype;
    RepresentationShape representation = {};

    /** Descriptions of one head in one block. */
    int64_t descriptions() const {
        const bool kept = representation.kind != cpu::Representation::kNone;
        return kept ? block_size / representation.tokens : 0;
    }
    int64_t group_size() const { return num_query_heads / num_kv_heads; }
};

/**
 * The memory of a paged KV cache: one reservation, backed by memory only where it was written.
 * Layout [block][layer][piece], row-major, little-endian; a piece is [K|V][kv head][token][dim] and
 * behind it, where they are kept, descriptions [kv head][description][part][dim]. A block, and a
 * piece, is contiguous.
 */
class KvArena {
  public:
    static Status Create(const ArenaShape& shape, std::unique_ptr<KvArena>* arena);
    ~KvArena();
    KvArena(const KvArena&) = delete;
    KvArena& operator=(const KvArena&) = delete;

    const ArenaShape& shape() const { return shape_; }
    int64_t bytes() const { return shape_.num_blocks * bytes_per_block(); }
    int64_t bytes_per_block() const { return shape_.num_layers * bytes_per_layer(); }
    /** One piece: keys and values of one layer in one block, and their descriptions. */
    int64_t bytes_per_layer() const {
        return description_offset() + shape_.num_kv_heads * descriptions_bytes();
    }
    /** One token of one head. */
    int64_t row_bytes() const { return row_bytes_; }

    uint8_t* Piece(int64_t block, int64_t layer) const {
        return data_ + block * bytes_per_block() + layer * bytes_per_layer();
    }
    /** From a piece to the keys of a head in it, [block_size][head_dim], in bytes. */
    int64_t head_offset(int64_t kv_head) const {
        return kv_head * shape_.block_size * row_bytes_;
    }
    /** The keys of (block, layer, kv head): [block_size][head_dim]. */
    uint8_t* Keys(int64_t block, int64_t layer, int64_t kv_head) const {
        return Piece(block, layer) + head_offset(kv_head);
    }
    /** From a key to the value of the same token and head, in bytes. */
    int64_t value_offset() const { return plane_bytes_; }
    /** From a piece to its descriptions, in bytes. */
    int64_t description_offset() const { return 2 * plane_bytes_; }
    /** The descriptions of one head in one piece. */
    int64_t descriptions_bytes() const {
        return shape_.descriptions() * cpu::PartsOf(shape_.representation.kind) * row_bytes_;
    }

  private:
    KvArena(const ArenaShape& shape, uint8_t* data);

    ArenaShape shape_;
    int64_t row_bytes_;
    /** All heads of K, or of V, of one (block, layer). */
    int64_t plane_bytes_;
    uint8_t* data_;
};

}  // namespace ucm
