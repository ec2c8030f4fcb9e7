#include "attention/kv_arena.h"

#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <string>

namespace ucm {
namespace {

/** Above any machine's address space, and far from overflow of the size computations below. */
constexpr int64_t kMaxCount = int64_t{1} << 31;

Status CheckRange(const char* name, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return Status::Ok();
    return Status::InvalidArgument(std::string("createArena: ") + name + " is " +
                                   std::to_string(value) + ", expected " + std::to_string(low) +
                                   " to " + std::to_string(high));
}

Status CheckShape(const ArenaShape& shape) {
    UCM_RETURN_IF_ERROR(CheckRange("numBlocks", shape.num_blocks, 1, kMaxCount - 1));
    UCM_RETURN_IF_ERROR(CheckRange("numLayers", shape.num_layers, 1, 4096));
    UCM_RETURN_IF_ERROR(CheckRange("blockSize", shape.block_size, 8, 256));
    UCM_RETURN_IF_ERROR(CheckRange("numQueryHeads", shape.num_query_heads, 1, 4096));
    UCM_RETURN_IF_ERROR(CheckRange("numKvHeads", shape.num_kv_heads, 1, shape.num_query_heads));
    UCM_RETURN_IF_ERROR(CheckRange("headDim", shape.head_dim, 8, 256));
    if (!std::has_single_bit(static_cast<uint64_t>(shape.block_size))) {
        return Status::InvalidArgument("createArena: blockSize is " +
                                       std::to_string(shape.block_size) +
                                       ", expected a power of two");
    }
    if (shape.head_dim % 8 != 0) {
        return Status::InvalidArgument("createArena: headDim is " + std::to_string(shape.head_dim) +
                                       ", expected a multiple of 8");
    }
    if (shape.num_query_heads % shape.num_kv_heads != 0) {
        return Status::InvalidArgument(
            "createArena: numQueryHeads " + std::to_string(shape.num_query_heads) +
            " is not a multiple of numKvHeads " + std::to_string(shape.num_kv_heads));
    }
    const RepresentationShape& kept = shape.representation;
    if (kept.kind != cpu::Representation::kNone &&
        (kept.tokens < 8 || kept.tokens > shape.block_size ||
         !std::has_single_bit(static_cast<uint64_t>(kept.tokens)))) {
        return Status::InvalidArgument(
            "createArena: representation.tokens is " + std::to_string(kept.tokens) +
            ", expected a power of two from 8 to the blockSize of " +
            std::to_string(shape.block_size));
    }
    return Status::Ok();
}

}  // namespace

KvArena::KvArena(const ArenaShape& shape, uint8_t* data)
    : shape_(shape),
      row_bytes_(shape.head_dim * BytesOf(shape.dtype)),
      plane_bytes_(shape.num_kv_heads * shape.block_size * row_bytes_),
      data_(data) {}

Status KvArena::Create(const ArenaShape& shape, std::unique_ptr<KvArena>* arena) {
    UCM_RETURN_IF_ERROR(CheckShape(shape));
    std::unique_ptr<KvArena> created(new KvArena(shape, nullptr));
    const auto out_of_memory = [&](const char* reason) {
        return Status(StatusCode::kOutOfMemory,
                      "cannot reserve a KV cache of " + std::to_string(shape.num_blocks) +
                          " blocks of " + std::to_string(created->bytes_per_block()) +
                          " bytes: " + reason + "; ask for fewer blocks");
    };
    int64_t bytes = 0;
    if (__builtin_mul_overflow(shape.num_blocks, created->bytes_per_block(), &bytes)) {
        return out_of_memory("the size is beyond 64 bits");
    }
    void* data = mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return out_of_memory(std::strerror(errno));
    // Only advice: without huge pages everything works, with more TLB misses.
    madvise(data, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
    created->data_ = static_cast<uint8_t*>(data);
    *arena = std::move(created);
    return Status::Ok();
}

KvArena::~KvArena() {
    if (data_ != nullptr) munmap(data_, static_cast<std::size_t>(bytes()));
}

}  // namespace ucm
