#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "store/block_buffer.h"
#include "store/io_pool.h"
#include "store/kv_store.h"
#include "store/store_stats.h"

namespace ucm {

struct DramStoreOptions {
    BlockShape shape;
    int64_t capacity_bytes = 0;
    /** That copy blocks out; 0 chooses by the number of cores. */
    int threads = 0;
};

/**
 * Blocks in a bounded amount of memory (UcmDram). When it is full, the least recently used block
 * that is neither pinned nor being copied makes room. Blocks are copied outside the lock, on buffers
 * that their readers share, and every copy is checked.
 */
class DramStore final : public KvStore {
  public:
    static Status Open(const DramStoreOptions& options, std::shared_ptr<DramStore>* store);
    ~DramStore() override;

    const BlockShape& shape() const override { return pool_->shape(); }
    std::vector<Presence> LookupMemory(std::span<const BlockKey> keys) override;
    void Lookup(std::vector<BlockKey> keys, LookupDone done) override;
    void Load(std::shared_ptr<LoadBatch> batch) override;
    void LoadPieces(std::vector<PieceTarget> pieces, BlocksDone done) override;
    void Dump(std::span<const DumpSource> blocks, BlocksDone done) override;
    void Pin(std::vector<BlockKey> keys, BlocksDone done) override;
    void Unpin(std::vector<BlockKey> keys) override;
    void Forget(std::vector<BlockKey> keys, BlocksDone done) override;
    std::vector<TierStats> Stats() const override;
    void Close(std::chrono::milliseconds patience) override;

    /** Pieces [begin, end) of a batch, which lie in one block. */
    struct PieceRun {
        std::size_t begin;
        std::size_t end;
        std::shared_ptr<BlockBuffer> block;
    };

    /** The block, which becomes the most recently used one; null when it is not here. */
    std::shared_ptr<BlockBuffer> Find(const BlockKey& key);
    /** Copies a block in; null when there is no room for it. What was there already stays. */
    std::shared_ptr<BlockBuffer> Keep(const BlockKey& key, const uint8_t* data);
    /** Loads one block of a batch out of its buffer. */
    void LoadOne(const std::shared_ptr<LoadBatch>& batch, std::size_t index,
                 std::shared_ptr<BlockBuffer> block);
    /** Loads pieces of a batch out of their blocks' buffers. */
    void LoadRuns(const std::shared_ptr<PieceBatch>& batch, std::vector<PieceRun> runs);
    /** Pins whether or not the block is here. */
    void AddPin(const BlockKey& key);
    bool Remove(const BlockKey& key);

  private:
    struct Entry {
        BlockKey key;
        std::shared_ptr<BlockBuffer> block;
    };
    /** Most recently used first. */
    using Order = std::list<Entry>;

    class CopyTask;
    class CopyPiecesTask;

    DramStore(const DramStoreOptions& options, std::shared_ptr<BlockBufferPool> pool);
    std::shared_ptr<BlockBuffer> FindLocked(const BlockKey& key);
    std::shared_ptr<BlockBuffer> MakeRoom();
    void RemoveDamaged(const BlockKey& key, const BlockBuffer* block);
    /** The list that the key's entry is in: eviction walks only over unpinned ones. */
    Order& OrderOf(const BlockKey& key) { return pins_.contains(key) ? pinned_ : unpinned_; }
    void Move(const BlockKey& key, Order& from, Order& to);

    const std::shared_ptr<BlockBufferPool> pool_;
    Counters counters_;
    mutable std::mutex mutex_;
    Order unpinned_;
    Order pinned_;
    std::unordered_map<BlockKey, Order::iterator, DigestHash> index_;
    std::unordered_map<BlockKey, int, DigestHash> pins_;
    bool closed_ = false;
    IoPool threads_;
};

}  // namespace ucm
