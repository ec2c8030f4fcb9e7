#include "store/space.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <thread>
#include <utility>

#include "store/io_pool.h"
#include "store/server_folder.h"

namespace ucm {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
/** A collector that shows no sign of life for so long lost its lease. */
constexpr int64_t kLeaseFor = 30 * kSecond;
/** No writer takes so long for one file. */
constexpr int64_t kTempFor = 600 * kSecond;
/** Long enough for someone to look at a damaged file. */
constexpr int64_t kQuarantineFor = int64_t{7} * 24 * 3600 * kSecond;
constexpr std::size_t kMaxQuarantined = 64;
/** Removals between two renewals of the lease. */
constexpr int kRemovalsPerRenewal = 256;
constexpr std::size_t kClaimDigits = 20;
/** Recycling goes this share of the capacity below its threshold, so that it does not run all the time. */
constexpr double kRecycleStep = 0.1;
/** A claim that does not fit may do so when another server's collection gets on. */
constexpr int kClaimAttempts = 5;
constexpr std::chrono::seconds kPublishPatience{2};

}  // namespace

Space::Space(std::shared_ptr<FileSystem> files, const StoreLayout& layout,
             const SpaceOptions& options, std::shared_ptr<Counters> counters)
    : files_(std::move(files)),
      layout_(layout),
      options_(options),
      counters_(std::move(counters)) {}

int Space::Join() {
    const std::lock_guard lock(join_mutex_);
    if (joined_.load()) return 0;
    for (const std::string& folder :
         {layout_.servers_folder(), layout_.server_folder(), layout_.pins_folder()}) {
        const int result = files_->MakeDirectory(folder);
        if (result < 0 && result != -EEXIST) return result;
    }
    const int result = Publish(0);
    if (result < 0) return result;
    joined_.store(true);
    return 0;
}

void Space::Leave() {
    if (joined_.exchange(false)) RemoveServerFolder(*files_, layout_, layout_.server_name());
}

bool Space::Heartbeat() {
    if (!joined_.load() || files_->TouchWritten(layout_.reservation_file()) != -ENOENT) {
        return false;
    }
    joined_.store(false);
    if (Join() < 0) return true;
    std::unique_lock lock(mutex_);
    if (!publishing_) Republish(lock);
    return true;
}

void Space::PublishStats(const std::string& text) {
    if (!joined_.load() || text == published_stats_) return;
    // By renaming, so that a reader sees all of it or what was there before.
    const std::string temp = layout_.stats_file() + ".tmp";
    const int written = WriteSmallFile(*files_, temp, text, O_CREAT | O_WRONLY | O_TRUNC);
    if (written == 0 && files_->Rename(temp, layout_.stats_file()) == 0) {
        published_stats_ = text;
    } else {
        files_->Unlink(temp);
    }
}

void Space::Republish(std::unique_lock<std::mutex>& lock) {
    const int64_t claim = free_claim_ + in_flight_;
    publishing_ = true;
    lock.unlock();
    const bool published = Publish(claim) == 0;
    lock.lock();
    if (published) published_ = claim;
    publishing_ = false;
    settled_.notify_all();
}

bool Space::Claim(int64_t bytes) {
    if (!limited()) return true;
    std::unique_lock lock(mutex_);
    while (free_claim_ < bytes) {
        if (publishing_) {
            if (!settled_.wait_for(lock, kPublishPatience, [&] { return !publishing_; })) {
                return false;
            }
            continue;
        }
        publishing_ = true;
        lock.unlock();
        const bool refilled = Refill(bytes);
        lock.lock();
        publishing_ = false;
        settled_.notify_all();
        if (!refilled) return false;
    }
    free_claim_ -= bytes;
    in_flight_ += bytes;
    return true;
}

void Space::Settle(int64_t bytes, bool written) {
    if (written) used_.fetch_add(bytes);
    if (!limited()) return;
    std::unique_lock lock(mutex_);
    in_flight_ -= bytes;
    if (!written) free_claim_ += bytes;
    const int64_t claim = free_claim_ + in_flight_;
    // Others cannot use what stays published, but publishing costs a file write.
    if (publishing_ || published_ - claim < std::max(bytes, published_ / 4)) return;
    Republish(lock);
}

int64_t Space::ThresholdBytes() const {
    return static_cast<int64_t>(static_cast<double>(options_.capacity_bytes) *
                                options_.recycle_ratio);
}

bool Space::WantsCollection() const {
    return limited() && options_.recycle && !options_.read_only && used_.load() > ThresholdBytes();
}

bool Space::Refill(int64_t bytes) {
    if (Join() < 0) return false;
    bool collected = false;
    for (int attempt = 0; attempt < kClaimAttempts; ++attempt) {
        int64_t base = 0;
        {
            const std::lock_guard lock(mutex_);
            base = free_claim_ + in_flight_;
        }
        // Claims shrink as room does, and leave room for the other servers' claims.
        const int64_t slack = options_.capacity_bytes - used_.load();
        const int64_t wish = std::max(bytes, slack / (4 * servers_.load()));
        int64_t claim = TryClaim(base + wish, base + bytes);
        // Of two servers that claim a lot at once both may have to step back; so ask for less.
        if (claim == 0 && wish > bytes) claim = TryClaim(base + bytes, base + bytes);
        if (claim > 0) {
            AdoptClaim(base, claim);
            return true;
        }
        if (Publish(base) == 0) AdoptClaim(base, base);
        if (claim < 0 || collected || !options_.recycle) return false;
        collected = Collect(bytes);
        // Another server is at it, which may make room as well.
        if (!collected) std::this_thread::sleep_for(options_.claim_pause);
    }
    return false;
}

int64_t Space::TryClaim(int64_t claim, int64_t least) {
    if (Publish(claim) < 0) return -1;
    const int64_t others = OthersClaims();
    const int64_t used = ScanFolder(*files_, layout_).used_bytes;
    used_.store(used);
    const int64_t room = options_.capacity_bytes - used - others;
    if (claim <= room) return claim;
    if (room < least) return 0;
    return Publish(room) == 0 ? room : -1;
}

void Space::AdoptClaim(int64_t base, int64_t claim) {
    const std::lock_guard lock(mutex_);
    free_claim_ += claim - base;
    published_ = claim;
}

int Space::Publish(int64_t claim) {
    // Always the same number of digits, so that the file never is empty or has old ones at its end.
    std::string digits = std::to_string(claim);
    digits.insert(0, kClaimDigits - digits.size(), '0');
    return WriteSmallFile(*files_, layout_.reservation_file(), digits, O_CREAT | O_WRONLY);
}

int64_t Space::OthersClaims() {
    std::vector<std::string> servers;
    files_->List(layout_.servers_folder(), &servers);
    const int64_t now = FileClock();
    int64_t claims = 0;
    int64_t alive = 1;
    for (const std::string& server : servers) {
        IoPool::Beat();
        if (server == layout_.server_name() || IsDeadServer(*files_, layout_, server, now)) continue;
        claims += ClaimOf(*files_, layout_, server);
        ++alive;
    }
    servers_.store(alive);
    return claims;
}

int64_t Space::FileClock() {
    FileInfo info;
    const bool known = joined_.load() && files_->TouchWritten(layout_.reservation_file()) == 0 &&
                       files_->PathStatus(layout_.reservation_file(), &info) == 0;
    return known ? info.write_time : SystemClock();
}

bool Space::Collect(int64_t needed_bytes) {
    if (options_.read_only || collecting_.exchange(true)) return false;
    const bool leads = TakeLease();
    if (leads) {
        FolderScan scan = ScanFolder(*files_, layout_);
        Clean(scan, FileClock());
        const int64_t threshold = ThresholdBytes();
        const auto step = static_cast<int64_t>(
            static_cast<double>(options_.capacity_bytes) *
            std::min(kRecycleStep, options_.recycle_ratio / 2));
        const bool due = scan.used_bytes > threshold || needed_bytes > 0;
        if (limited() && options_.recycle && due) Evict(scan, threshold - step);
        used_.store(scan.used_bytes);
        WriteSmallFile(*files_, layout_.collected_file(), layout_.server_name(),
                       O_CREAT | O_WRONLY | O_TRUNC);
        if (ReadSmallFile(*files_, layout_.collector_file()) == layout_.server_name()) {
            files_->Unlink(layout_.collector_file());
        }
    }
    collecting_.store(false);
    return leads;
}

void Space::CollectEvery(std::chrono::seconds interval) {
    FileInfo info;
    const bool known = files_->PathStatus(layout_.collected_file(), &info) == 0;
    const int64_t age = known ? FileClock() - info.write_time : INT64_MAX;
    if (age >= std::chrono::nanoseconds(interval).count()) Collect(0);
}

bool Space::TakeLease() {
    const std::string path = layout_.collector_file();
    const std::string& own = layout_.server_name();
    FileInfo info;
    if (files_->PathStatus(path, &info) == 0) {
        ServerId holder;
        const std::string name = ReadSmallFile(*files_, path);
        const bool dead = ServerId::Parse(name, &holder) && holder.IsKnownDead();
        if (name != own && !dead && FileClock() - info.write_time < kLeaseFor) return false;
    }
    // In one step and with its content; of several servers that do so at once, the last one has it.
    const std::string temp = path + "." + own;
    if (WriteSmallFile(*files_, temp, own, O_CREAT | O_WRONLY | O_TRUNC) < 0) return false;
    return files_->Rename(temp, path) == 0 && ReadSmallFile(*files_, path) == own;
}

void Space::RemoveLoose(FolderScan& scan, const FolderScan::Loose& file) {
    IoPool::Beat();
    if (files_->Unlink(file.path) < 0) return;
    scan.used_bytes -= file.bytes;
    counters_->Add(Counter::kReclaimedFiles);
}

void Space::Clean(FolderScan& scan, int64_t now) {
    for (const FolderScan::Loose& temp : scan.temps) {
        ServerId writer;
        const bool known = StoreLayout::ParseTempName(temp.name, &writer);
        // Files of other names are not ours to remove.
        if (known && (writer.IsKnownDead() || now - temp.written_at > kTempFor)) {
            RemoveLoose(scan, temp);
        }
    }
    std::sort(scan.quarantined.begin(), scan.quarantined.end(),
              [](const auto& a, const auto& b) { return a.written_at > b.written_at; });
    for (std::size_t i = 0; i < scan.quarantined.size(); ++i) {
        const FolderScan::Loose& file = scan.quarantined[i];
        if (i >= kMaxQuarantined || now - file.written_at > kQuarantineFor) RemoveLoose(scan, file);
    }
    std::vector<std::string> servers;
    files_->List(layout_.servers_folder(), &servers);
    for (const std::string& server : servers) {
        if (server != layout_.server_name() && IsDeadServer(*files_, layout_, server, now)) {
            RemoveServerFolder(*files_, layout_, server);
        }
    }
}

void Space::Evict(FolderScan& scan, int64_t target_bytes) {
    std::sort(scan.blocks.begin(), scan.blocks.end(),
              [](const auto& a, const auto& b) { return a.used_at < b.used_at; });
    const std::string own_namespace =
        layout_.namespace_folder().substr(layout_.blocks_folder().size() + 1);
    int removals = 0;
    for (const FolderScan::Block& block : scan.blocks) {
        if (scan.used_bytes <= target_bytes) return;
        const bool own = scan.namespaces[block.name_space] == own_namespace;
        if (block.pinned || (own && is_pinned_ && is_pinned_(block.key))) continue;
        const int removed = RemoveUnused(*files_, scan.PathOf(layout_, block), block.used_at);
        const bool gone = removed == 0 || removed == -ENOENT || removed == -ESTALE;
        if (gone) scan.used_bytes -= block.bytes;
        if (removed != 0) continue;
        counters_->Add(Counter::kEvictedBlocks);
        counters_->Add(Counter::kEvictedBytes, block.bytes);
        if (own && removed_) removed_(block.key);
        if (++removals % kRemovalsPerRenewal == 0) files_->TouchWritten(layout_.collector_file());
    }
}

}  // namespace ucm
