#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "store/dram_store.h"
#include "store/file_store.h"
#include "store/kv_store.h"

namespace ucm {

/**
 * Memory in front of files (UcmPipelineStore, "Cache|Posix"). A dump is done when the block is in
 * memory; it is written later, from a bounded queue that gives up its oldest block when it is full. A
 * block that is loaded from a file stays in memory.
 */
class PipelineStore final : public KvStore {
  public:
    /** `queue_blocks` is how many blocks may wait to be written. */
    PipelineStore(std::shared_ptr<DramStore> memory, std::shared_ptr<FileStore> files,
                  std::size_t queue_blocks);
    ~PipelineStore() override;

    const BlockShape& shape() const override { return memory_->shape(); }
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

  private:
    class WriteQueue;
    /** `in_files` of `total` pins are pins of the file store too. */
    struct PinCount {
        int total = 0;
        int in_files = 0;
    };

    BlockStatus DumpOne(const DumpSource& source);
    /** Removes one pin; true when one in the file store must go as well. */
    bool DropPin(const BlockKey& key);

    const std::shared_ptr<DramStore> memory_;
    const std::shared_ptr<FileStore> files_;
    const std::shared_ptr<WriteQueue> writes_;
    std::mutex pins_mutex_;
    std::unordered_map<BlockKey, PinCount, DigestHash> pins_;
};

}  // namespace ucm
