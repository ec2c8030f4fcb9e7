#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "common/status.h"
#include "store/block_key.h"

namespace ucm {

class BlockBufferPool;

/** One block's bytes outside the arena, with the CRC-32C of every layer. Shared by pointer. */
class BlockBuffer {
  public:
    BlockBuffer(std::shared_ptr<BlockBufferPool> pool, uint8_t* data);
    ~BlockBuffer();
    BlockBuffer(const BlockBuffer&) = delete;
    BlockBuffer& operator=(const BlockBuffer&) = delete;

    /** Copies the block in and takes its checksums. Not while others read it. */
    void Fill(const uint8_t* block);
    /** Copies the block out; false when it is not what was filled in. */
    [[nodiscard]] bool CopyTo(uint8_t* block) const;

    /** Copies one layer out; false when it is not what was filled in. */
    [[nodiscard]] bool CopyLayerTo(int32_t layer, uint8_t* piece) const;

    /** Has the start of a layer, which is copied soon, come into the cache. */
    void PrefetchLayer(int32_t layer) const;

    /** Starts at a multiple of the file format's alignment, and may be read up to the next one. */
    const uint8_t* data() const { return data_; }
    int64_t bytes() const;
    std::span<const uint32_t> checksums() const { return checksums_; }

  private:
    const std::shared_ptr<BlockBufferPool> pool_;
    uint8_t* const data_;
    std::vector<uint32_t> checksums_;
};

/** A fixed number of equal buffers in one reservation, which takes memory only where it was used. */
class BlockBufferPool : public std::enable_shared_from_this<BlockBufferPool> {
  public:
    /** As many buffers as fit into `capacity_bytes`, which must hold one. `name` is for the message. */
    static Status Create(const BlockShape& shape, int64_t capacity_bytes, const char* name,
                         std::shared_ptr<BlockBufferPool>* pool);
    ~BlockBufferPool();
    BlockBufferPool(const BlockBufferPool&) = delete;
    BlockBufferPool& operator=(const BlockBufferPool&) = delete;

    /** Null when every buffer is in use. */
    std::shared_ptr<BlockBuffer> TryAcquire();

    const BlockShape& shape() const { return shape_; }
    int64_t capacity() const { return count_; }
    int64_t in_use() const;

  private:
    friend class BlockBuffer;
    BlockBufferPool(const BlockShape& shape, int64_t count, uint8_t* data);
    void Release(uint8_t* data);
    int64_t stride() const;

    const BlockShape shape_;
    const int64_t count_;
    uint8_t* const data_;
    mutable std::mutex mutex_;
    /** Freed buffers, latest last: it is the likeliest to be in a cache. */
    std::vector<uint8_t*> free_;
    /** Buffers from this one on were never used. */
    int64_t fresh_ = 0;
};

}  // namespace ucm
