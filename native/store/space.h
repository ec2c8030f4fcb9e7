#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "store/file_system.h"
#include "store/folder_scan.h"
#include "store/store_layout.h"
#include "store/store_stats.h"

namespace ucm {

struct SpaceOptions {
    /** 0 for no limit. */
    int64_t capacity_bytes = 0;
    bool recycle = true;
    double recycle_ratio = 0.7;
    bool read_only = false;
    /** Before a claim is tried again while another server recycles. */
    std::chrono::milliseconds claim_pause{20};
};

/**
 * The room in one backend folder, which any number of servers on any number of hosts share without
 * talking to each other.
 *
 * Quota: before it writes, a server publishes a claim in its own file, then adds up the claims of
 * all servers and what the folder holds, in this order; it may use the claim only when the sum fits.
 * Of two servers that claim at once, at least one sees the other's claim, and a file counts as a
 * claim until it counts as a file; so the quota holds at every moment (as exactly as the file system
 * shows a server the others' latest writes, which network file systems delay by their attribute cache).
 *
 * Recycling: least recently read first. A pinned block has a second hard link, which anyone can see
 * and which keeps the data even when a collector that looked before removes the first. A lease makes
 * sure that usually one server collects; several at once remove the same files, which does no harm.
 */
class Space {
  public:
    Space(std::shared_ptr<FileSystem> files, const StoreLayout& layout, const SpaceOptions& options,
          std::shared_ptr<Counters> counters);

    /** Creates this server's folder when it is not there; 0 or a negative errno. */
    int Join();
    void Leave();
    /** Renews the heartbeat of a server that joined. True when it had been taken for dead. */
    bool Heartbeat();
    /** Tells what a server that joined counts, for people. One thread at a time. */
    void PublishStats(const std::string& text);

    /** Claims room for a file. False when there is none, even after recycling. */
    bool Claim(int64_t bytes);
    /** The file that was claimed for is there, or was not written. */
    void Settle(int64_t bytes, bool written);
    /** True when the recycling threshold is passed. */
    bool WantsCollection() const;

    /**
     * Recycles when the threshold is passed or `needed_bytes` more do not fit, and removes what dead
     * writers left and old quarantined files. False when another server is at it.
     */
    bool Collect(int64_t needed_bytes);
    /** The same when no server did it in the last `interval`. */
    void CollectEvery(std::chrono::seconds interval);

    /** Blocks of this namespace that are not to be removed although they have no second link. */
    void Protect(std::function<bool(const BlockKey&)> is_pinned) {
        is_pinned_ = std::move(is_pinned);
    }
    /** Told of every block of this namespace that is removed. */
    void OnRemoved(std::function<void(const BlockKey&)> removed) { removed_ = std::move(removed); }

    int64_t capacity_bytes() const { return options_.capacity_bytes; }
    /** As far as this server knows. */
    int64_t used_bytes() const { return used_.load(std::memory_order_relaxed); }

  private:
    bool limited() const { return options_.capacity_bytes > 0; }
    bool Refill(int64_t bytes);
    /** Claims up to `claim` bytes in all, but at least `least`: 0 when that does not fit, -1 on errors. */
    int64_t TryClaim(int64_t claim, int64_t least);
    /** `claim` holds now; `base` of it is what was held before. */
    void AdoptClaim(int64_t base, int64_t claim);
    /** Publishes what is really held. Nobody else may be publishing. */
    void Republish(std::unique_lock<std::mutex>& lock);
    int Publish(int64_t claim);
    /** Sum of the other servers' claims. */
    int64_t OthersClaims();
    bool TakeLease();
    int64_t ThresholdBytes() const;
    /** The file system's clock, which the times of files are compared to. */
    int64_t FileClock();
    void Clean(FolderScan& scan, int64_t now);
    void RemoveLoose(FolderScan& scan, const FolderScan::Loose& file);
    /** Removes blocks, least recently used first, until `target_bytes` are left. */
    void Evict(FolderScan& scan, int64_t target_bytes);

    const std::shared_ptr<FileSystem> files_;
    const StoreLayout layout_;
    const SpaceOptions options_;
    const std::shared_ptr<Counters> counters_;
    std::function<bool(const BlockKey&)> is_pinned_;
    std::function<void(const BlockKey&)> removed_;

    /** Held over file system calls: only I/O threads take it. */
    std::mutex join_mutex_;
    std::mutex mutex_;
    std::condition_variable settled_;
    /** Published, granted and not yet given to a file. */
    int64_t free_claim_ = 0;
    /** Given to files that are being written. */
    int64_t in_flight_ = 0;
    /** What this server's file says; never less than the two above. */
    int64_t published_ = 0;
    /** One thread at a time writes that file. */
    bool publishing_ = false;
    std::string published_stats_;
    std::atomic<bool> collecting_{false};
    std::atomic<bool> joined_{false};
    std::atomic<int64_t> used_{0};
    std::atomic<int64_t> servers_{1};
};

}  // namespace ucm
