#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/status.h"
#include "store/block_file.h"
#include "store/circuit_breaker.h"
#include "store/hint_cache.h"
#include "store/kv_store.h"
#include "store/space.h"
#include "store/store_layout.h"
#include "store/store_stats.h"

namespace ucm {

struct FileStoreOptions {
    BlockShape shape;
    Digest name_space;
    /** One line for people on what the namespace is; kept beside its blocks. */
    std::string about;
    /** Of the store among all that share a folder, whose counts are of all its backends. */
    std::string store_id;
    /** Existing folders. A block's key decides which one it is in. */
    std::vector<std::string> backends;
    /** For all backends together; 0 chooses by the number of cores. */
    int threads = 0;
    BlockFileOptions file;
    /** For all backends together; 0 for no limit. */
    int64_t capacity_bytes = 0;
    bool recycle = true;
    /** Share of the capacity from which on the least recently used blocks are removed. */
    double recycle_ratio = 0.7;
    /** Nothing is written, moved or removed. */
    bool read_only = false;
    /** A device that does not answer a call for so long is stuck. */
    std::chrono::milliseconds stall_timeout{2000};
    /** A load that takes longer in all fails. */
    std::chrono::milliseconds total_timeout{30000};
    CircuitBreaker::Options breaker;
    /** Memory of blocks that wait to be written. */
    int64_t write_buffer_bytes = int64_t{256} << 20;
    std::shared_ptr<FileSystem> files = FileSystem::Posix();
};

/**
 * One backend folder: every operation on it, each made of blocking calls and run on an I/O thread.
 * Tasks share it, since one that is stuck outlives the store.
 */
class FileBackend {
  public:
    FileBackend(const FileStoreOptions& options, const std::string& folder, int64_t capacity_bytes,
                const std::shared_ptr<Counters>& counters);

    /** Creates the folders. Fails when the folder is missing or cannot be used. A probe tries again. */
    Status Open();

    bool Exists(const BlockKey& key);
    /** Opens the block's file, or its pinned link when another server removed it. */
    BlockReader::Outcome OpenBlock(const BlockKey& key, BlockReader* reader);
    /** What a finished read means for the caller, the hints and the breaker; moves bad files away. */
    BlockStatus Conclude(const BlockKey& key, BlockReader::Outcome outcome, BlockReader* reader);
    BlockStatus Store(const BlockKey& key, const BlockBuffer& block, const Staging& staging);
    /** Counts a pin that Pin then makes; does not touch the folder. */
    void AddPin(const BlockKey& key);
    /** Makes it so in the folder. Without kOk the pin does not count any more. */
    BlockStatus Pin(const BlockKey& key);
    /** Takes a pin back, which Unpin then unmakes; does not touch the folder. */
    void DropPin(const BlockKey& key);
    void Unpin(const BlockKey& key);
    BlockStatus Forget(const BlockKey& key);
    /** Asks the device for a sign of life; closes the breakers when it gives one. */
    void Probe();
    /** Heartbeat, pins that nobody holds any more, and recycling when the threshold is passed. */
    void Maintain();
    /** Recycles and cleans when no server did so in the last `interval`. */
    void Clean(std::chrono::seconds interval) { space_.CollectEvery(interval); }
    /** Removes this server's traces. */
    void Leave();

    const FileStoreOptions& options() const { return options_; }
    const StoreLayout& layout() const { return layout_; }
    HintCache& hints() { return hints_; }
    Counters& counters() { return *counters_; }
    CircuitBreaker& reads() { return reads_; }
    CircuitBreaker& writes() { return writes_; }
    Space& space() { return space_; }
    bool IsPinned(const BlockKey& key) const;
    int64_t pinned() const { return pinned_.load(std::memory_order_relaxed); }

  private:
    /** Of a key that someone pins, or whose link is still there. */
    struct PinEntry {
        int count = 0;
        bool held = false;
        /** False where the file system has no hard links: then only this server knows. */
        bool linked = false;
    };

    int WriteBlock(const BlockKey& key, const BlockBuffer& block, const Staging& staging);
    int MakeShard(const BlockKey& key);
    void Quarantine(const BlockKey& key, BlockReader* reader);
    int LinkPin(const BlockKey& key);
    void RelinkPins();
    /** Unmakes pins that were taken back while the device was out, when nothing could unmake them. */
    void UnpinLeftovers();
    void WriteAbout();
    /** What the server's folder tells people. */
    std::string StatsText() const;

    const FileStoreOptions options_;
    const StoreLayout layout_;
    const std::shared_ptr<FileSystem> files_;
    const std::shared_ptr<Counters> counters_;
    HintCache hints_;
    CircuitBreaker reads_;
    CircuitBreaker writes_;
    Space space_;
    const int64_t started_at_;
    std::atomic<int64_t> next_name_{0};
    std::atomic<int64_t> pinned_{0};
    /** Held over file system calls: only I/O threads take it, and before the next one. */
    std::mutex links_mutex_;
    mutable std::mutex pins_mutex_;
    std::unordered_map<BlockKey, PinEntry, DigestHash> pins_;
    std::atomic<bool> open_{false};
};

}  // namespace ucm
