#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "store/file_backend.h"
#include "store/file_tasks.h"
#include "store/io_pool.h"
#include "store/kv_store.h"

namespace ucm {

/**
 * Blocks as files in one or several folders, on any mount, shared with any number of other servers
 * (UcmNfsStore). The folder is the index: nothing is read at start, and a block that another server
 * wrote is found.
 */
class FileStore final : public KvStore {
  public:
    /**
     * Fails when a folder is missing or cannot be used. A device that does not answer is left out
     * until it does.
     */
    static Status Open(const FileStoreOptions& options, std::shared_ptr<FileStore>* store);
    ~FileStore() override;

    const BlockShape& shape() const override { return options_.shape; }
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

    /** One block of a batch; `loaded` may be empty. */
    void LoadOne(const std::shared_ptr<LoadBatch>& batch, std::size_t index, BlockLoaded loaded);
    /** Pieces [begin, end) of a batch, all of one block. */
    void LoadRun(const std::shared_ptr<PieceBatch>& batch, std::size_t begin, std::size_t end);
    /** Writes a block that is in memory already. */
    void DumpBuffer(const BlockKey& key, std::shared_ptr<BlockBuffer> block, DumpTask::Done done);
    /** What is remembered of the block's file, without asking the device. */
    Hint Remembered(const BlockKey& key) { return VolumeOf(key).backend->hints().Find(key); }

    Counters& counters() { return *counters_; }

    /** Recycles and cleans up now, and waits for it: for tools and tests. */
    void CollectNow();

  private:
    /** One folder with its threads. */
    struct Volume {
        std::shared_ptr<FileBackend> backend;
        std::unique_ptr<IoPool> pool;
        /** One chore at a time. */
        std::shared_ptr<std::atomic<bool>> busy = std::make_shared<std::atomic<bool>>(false);
        Clock::time_point next_heartbeat{};
        Clock::time_point next_cleaning{};
    };

    FileStore(const FileStoreOptions& options, std::shared_ptr<BlockBufferPool> buffers);
    Status OpenVolumes();
    Volume& VolumeOf(const BlockKey& key);
    void ForKeys(std::vector<BlockKey> keys, BlocksDone done, const KeysTask::Action& action,
                 const KeysTask::Undo& undo);
    void KeepHouse();
    void DoChores(Volume& volume, Clock::time_point now);
    bool RunChore(Volume& volume, std::function<void(FileBackend&)> chore,
                  std::function<void()> done);

    const FileStoreOptions options_;
    const std::shared_ptr<BlockBufferPool> buffers_;
    const std::shared_ptr<Counters> counters_ = std::make_shared<Counters>();
    std::vector<Volume> volumes_;
    std::atomic<uint64_t> loads_{0};
    std::mutex mutex_;
    std::condition_variable wake_;
    bool closing_ = false;
    std::thread housekeeper_;
};

}  // namespace ucm
