#include "store/file_backend.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "store/block_verify.h"
#include "store/server_folder.h"

namespace ucm {
namespace {

using Outcome = BlockReader::Outcome;

/** A read within this time of the last one does not change the recycling order much. */
constexpr int64_t kTouchInterval = int64_t{60} * 1'000'000'000;

/** Errors that say nothing about the device. */
bool IsLocalError(int error) {
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == EACCES ||
           error == EPERM;
}

bool LacksLinks(int result) {
    return result == -EPERM || result == -EOPNOTSUPP || result == -ENOSYS || result == -EMLINK ||
           result == -EROFS;
}

SpaceOptions SpaceOptionsOf(const FileStoreOptions& options, int64_t capacity_bytes) {
    return {.capacity_bytes = capacity_bytes,
            .recycle = options.recycle,
            .recycle_ratio = options.recycle_ratio,
            .read_only = options.read_only};
}

}  // namespace

FileBackend::FileBackend(const FileStoreOptions& options, const std::string& folder,
                         int64_t capacity_bytes, const std::shared_ptr<Counters>& counters)
    : options_(options),
      layout_(folder, options.name_space, ServerId::Make()),
      files_(options.files),
      counters_(counters),
      reads_(options.breaker),
      writes_(options.breaker),
      space_(options.files, layout_, SpaceOptionsOf(options, capacity_bytes), counters),
      started_at_(SystemClock()) {
    space_.Protect([this](const BlockKey& key) { return IsPinned(key); });
    space_.OnRemoved([this](const BlockKey& key) { hints_.PutAbsent(key); });
}

Status FileBackend::Open() {
    const auto unusable = [&](const std::string& path, int error) {
        return Status(StatusCode::kIo, "storage_backends: cannot use '" + path +
                                           "': " + std::strerror(error));
    };
    FileInfo info;
    const std::string& folder = layout_.backend();
    if (const int result = files_->PathStatus(folder + "/.", &info); result < 0) {
        if (result != -ENOENT) return unusable(folder, -result);
        return {StatusCode::kIo, "storage_backends: there is no folder '" + folder +
                                     "'; create or mount it first"};
    }
    if (options_.read_only) {
        open_.store(true);
        return Status::Ok();
    }
    for (const std::string& made :
         {layout_.root(), layout_.blocks_folder(), layout_.namespace_folder(),
          layout_.quarantine_folder(), layout_.servers_folder()}) {
        IoPool::Beat();
        const int result = files_->MakeDirectory(made);
        if (result < 0 && result != -EEXIST) return unusable(made, -result);
    }
    if (const int result = space_.Join(); result < 0) return unusable(layout_.root(), -result);
    WriteAbout();
    open_.store(true);
    return Status::Ok();
}

void FileBackend::WriteAbout() {
    if (options_.about.empty()) return;
    const int file = files_->Open(layout_.about_file(), O_CREAT | O_EXCL | O_WRONLY, 0666);
    if (file < 0) return;  // Another server wrote it; and it only is for people.
    files_->Write(file, options_.about.data(), options_.about.size(), 0);
    files_->Close(file);
}

bool FileBackend::Exists(const BlockKey& key) {
    const Hint hint = hints_.Find(key);
    if (hint != Hint::kNone) return hint == Hint::kPresent;
    IoPool::Beat();
    FileInfo info;
    int result = files_->PathStatus(layout_.BlockFile(key), &info);
    if (result == -ENOENT && pinned() > 0) {
        result = files_->PathStatus(layout_.PinFile(key), &info);
    }
    if (result < 0 && result != -ENOENT && result != -ESTALE) {
        if (!IsLocalError(-result)) reads_.Fail();
        return false;
    }
    reads_.Succeed();
    const bool present = result == 0 && info.size == block_format::FileBytes(options_.shape);
    if (present) {
        hints_.PutPresent(key);
    } else {
        hints_.PutAbsent(key);
    }
    return present;
}

Outcome FileBackend::OpenBlock(const BlockKey& key, BlockReader* reader) {
    Outcome outcome = reader->Open(layout_.BlockFile(key), options_.file.direct);
    if (outcome == Outcome::kMissing && pinned() > 0) {
        outcome = reader->Open(layout_.PinFile(key), options_.file.direct);
    }
    return outcome;
}

BlockStatus FileBackend::Conclude(const BlockKey& key, Outcome outcome, BlockReader* reader) {
    if (outcome == Outcome::kFailed) {
        if (!IsLocalError(reader->error())) reads_.Fail();
        hints_.PutBad(key);
        return BlockStatus::kFailed;
    }
    reads_.Succeed();
    switch (outcome) {
        case Outcome::kDone: {
            const FileInfo& info = reader->info();
            const int64_t used_at = std::max(info.read_time, info.write_time);
            if (!options_.read_only && SystemClock() - used_at > kTouchInterval) {
                files_->TouchRead(reader->file());
            }
            hints_.PutPresent(key);
            return BlockStatus::kOk;
        }
        case Outcome::kCorrupt: Quarantine(key, reader); return BlockStatus::kCorrupt;
        default: hints_.PutAbsent(key); return BlockStatus::kMissing;
    }
}

void FileBackend::Quarantine(const BlockKey& key, BlockReader* reader) {
    counters_->Add(Counter::kCorruptBlocks);
    hints_.PutBad(key);
    if (options_.read_only) return;
    for (const std::string& path : {layout_.BlockFile(key), layout_.PinFile(key)}) {
        const std::string target = layout_.QuarantineFile(key, next_name_.fetch_add(1));
        if (!MoveToQuarantine(*files_, layout_, path, reader->info().inode, target)) continue;
        counters_->Add(Counter::kQuarantinedBlocks);
        hints_.PutAbsent(key);
    }
}

int FileBackend::MakeShard(const BlockKey& key) {
    // Not its parents: where they are gone, the mount is.
    int result = files_->MakeDirectory(layout_.namespace_folder());
    if (result < 0 && result != -EEXIST) return result;
    result = files_->MakeDirectory(layout_.ShardFolder(key));
    return result == -EEXIST ? 0 : result;
}

int FileBackend::WriteBlock(const BlockKey& key, const BlockBuffer& block,
                            const Staging& staging) {
    const auto header_bytes =
        static_cast<std::size_t>(block_format::HeaderBytes(options_.shape));
    block_format::EncodeHeader(options_.shape, options_.name_space, key, block.checksums(),
                               staging.data);
    const std::string temp = layout_.TempFile(key, next_name_.fetch_add(1));
    const std::string path = layout_.BlockFile(key);
    const auto write = [&] {
        return WriteBlockFile(*files_, options_.file, temp, path, {staging.data, header_bytes},
                              block);
    };
    int result = write();
    if (result != -ENOENT) return result;
    result = MakeShard(key);
    return result < 0 ? result : write();
}

BlockStatus FileBackend::Store(const BlockKey& key, const BlockBuffer& block,
                               const Staging& staging) {
    if (Exists(key)) {
        counters_->Add(Counter::kDumpDuplicates);
        return BlockStatus::kOk;
    }
    const int64_t bytes = block_format::AlignUp(block_format::FileBytes(options_.shape));
    if (!space_.Claim(bytes)) {
        counters_->Add(Counter::kDumpsRefused);
        return BlockStatus::kRefused;
    }
    const int result = WriteBlock(key, block, staging);
    space_.Settle(bytes, result == 0);
    if (result < 0) {
        writes_.Fail();
        counters_->Add(Counter::kDumpFailures);
        return BlockStatus::kFailed;
    }
    writes_.Succeed();
    hints_.PutPresent(key);
    counters_->Add(Counter::kDumpedBlocks);
    counters_->Add(Counter::kDumpedBytes, options_.shape.bytes_per_block);
    return BlockStatus::kOk;
}

int FileBackend::LinkPin(const BlockKey& key) {
    IoPool::Beat();
    const int result = files_->Link(layout_.BlockFile(key), layout_.PinFile(key));
    return result == -EEXIST ? 0 : result;
}

void FileBackend::AddPin(const BlockKey& key) {
    const std::lock_guard lock(pins_mutex_);
    ++pins_[key].count;
}

void FileBackend::DropPin(const BlockKey& key) {
    const std::lock_guard lock(pins_mutex_);
    const auto entry = pins_.find(key);
    if (entry == pins_.end() || entry->second.count == 0) return;
    if (--entry->second.count == 0 && !entry->second.held) pins_.erase(entry);
}

BlockStatus FileBackend::Pin(const BlockKey& key) {
    const std::lock_guard links_lock(links_mutex_);
    {
        const std::lock_guard lock(pins_mutex_);
        const auto entry = pins_.find(key);
        if (entry == pins_.end() || entry->second.count == 0) return BlockStatus::kMissing;
        if (entry->second.held) return BlockStatus::kOk;
    }
    const int result = options_.read_only ? -EROFS : LinkPin(key);
    FileInfo info;
    const bool held = result == 0 || (LacksLinks(result) &&
                                      files_->PathStatus(layout_.BlockFile(key), &info) == 0);
    if (!held) {
        DropPin(key);
        const bool missing = result == -ENOENT || result == -ESTALE || LacksLinks(result);
        return missing ? BlockStatus::kMissing : BlockStatus::kFailed;
    }
    const std::lock_guard lock(pins_mutex_);
    PinEntry& entry = pins_[key];
    entry.held = true;
    entry.linked = result == 0;
    pinned_.fetch_add(1);
    return BlockStatus::kOk;
}

void FileBackend::Unpin(const BlockKey& key) {
    const std::lock_guard links_lock(links_mutex_);
    {
        const std::lock_guard lock(pins_mutex_);
        const auto entry = pins_.find(key);
        if (entry == pins_.end() || entry->second.count > 0 || !entry->second.held) return;
    }
    IoPool::Beat();
    files_->Unlink(layout_.PinFile(key));
    // The link may have been all that was left of the block.
    hints_.Put(key, Hint::kNone, std::chrono::seconds(0));
    const std::lock_guard lock(pins_mutex_);
    const auto entry = pins_.find(key);
    pinned_.fetch_sub(1);
    entry->second.held = false;
    if (entry->second.count == 0) pins_.erase(entry);
}

bool FileBackend::IsPinned(const BlockKey& key) const {
    const std::lock_guard lock(pins_mutex_);
    return pins_.contains(key);
}

void FileBackend::RelinkPins() {
    const std::lock_guard links_lock(links_mutex_);
    std::vector<BlockKey> keys;
    {
        const std::lock_guard lock(pins_mutex_);
        for (const auto& [key, entry] : pins_) {
            if (entry.linked) keys.push_back(key);
        }
    }
    for (const BlockKey& key : keys) LinkPin(key);
}

void FileBackend::UnpinLeftovers() {
    std::vector<BlockKey> keys;
    {
        const std::lock_guard lock(pins_mutex_);
        for (const auto& [key, entry] : pins_) {
            if (entry.held && entry.count == 0) keys.push_back(key);
        }
    }
    for (const BlockKey& key : keys) Unpin(key);
}

BlockStatus FileBackend::Forget(const BlockKey& key) {
    if (options_.read_only) return BlockStatus::kRefused;
    const int block = files_->Unlink(layout_.BlockFile(key));
    const int pin = pinned() > 0 ? files_->Unlink(layout_.PinFile(key)) : -ENOENT;
    hints_.PutAbsent(key);
    if (block == 0 || pin == 0) return BlockStatus::kOk;
    return block == -ENOENT || block == -ESTALE ? BlockStatus::kMissing : BlockStatus::kFailed;
}

void FileBackend::Probe() {
    IoPool::Beat();
    FileInfo info;
    const bool alive = open_.load() ? files_->PathStatus(layout_.backend() + "/.", &info) == 0
                                    : Open().ok();
    if (alive) {
        reads_.Succeed();
    } else {
        reads_.Fail();
    }
}

std::string FileBackend::StatsText() const {
    std::string text = "namespace " + options_.name_space.Hex() + "\nstore " + options_.store_id +
                       "\nstartedAtMs " + std::to_string(started_at_ / 1'000'000) + "\n";
    for (const auto& [name, value] : counters_->Values()) {
        text += std::string(name) + " " + std::to_string(value) + "\n";
    }
    return text;
}

void FileBackend::Maintain() {
    UnpinLeftovers();
    if (options_.read_only) return;
    if (space_.Heartbeat()) RelinkPins();
    space_.PublishStats(StatsText());
    if (space_.WantsCollection()) space_.Collect(0);
}

void FileBackend::Leave() {
    if (!options_.read_only) space_.Leave();
}

}  // namespace ucm
