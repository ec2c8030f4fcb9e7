#include "store/file_store.h"

#include <algorithm>
#include <future>
#include <utility>

namespace ucm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/** Loads that run layer by layer together: this many files are open at once. */
constexpr uint64_t kWindow = 128;
/** Keys that one thread looks up in a row. */
constexpr std::size_t kKeysPerTask = 32;
constexpr milliseconds kHousekeeping{250};
constexpr seconds kHeartbeat{5};
/** For taking this server's name off the folders at the end, however impatient the caller is. */
constexpr milliseconds kFarewell{100};
/** Between two looks at what other servers wrote. */
constexpr seconds kCollection{60};
/** Between two looks for what dead writers left, where there is no limit. */
constexpr seconds kCleaning{600};

int DefaultThreads() {
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    return std::clamp(4 * cores, 4, 32);
}

/** Jump consistent hash (Lamping and Veach, 2014): one more backend moves 1/n of the keys. */
std::size_t PlaceOf(uint64_t key, std::size_t backends) {
    int64_t place = -1;
    for (int64_t jump = 0; jump < static_cast<int64_t>(backends);) {
        place = jump;
        key = key * 2862933555777941757u + 1;
        jump = static_cast<int64_t>(static_cast<double>(place + 1) *
                                    (static_cast<double>(int64_t{1} << 31) /
                                     static_cast<double>((key >> 33) + 1)));
    }
    return static_cast<std::size_t>(place);
}

FileStoreOptions WithId(FileStoreOptions options) {
    options.store_id = ServerId::Make().Name();
    return options;
}

}  // namespace

Status FileStore::Open(const FileStoreOptions& options, std::shared_ptr<FileStore>* store) {
    if (options.backends.empty()) {
        return Status::InvalidArgument("storage_backends names no folder; give at least one");
    }
    const int64_t least = block_format::FileBytes(options.shape);
    const int64_t share = options.capacity_bytes / static_cast<int64_t>(options.backends.size());
    if (options.capacity_bytes > 0 && share < block_format::AlignUp(least)) {
        return Status::InvalidArgument(
            "storageCapacity is " + std::to_string(options.capacity_bytes) + ", which leaves " +
            std::to_string(share) + " bytes for each folder; one block takes " +
            std::to_string(block_format::AlignUp(least)));
    }
    std::shared_ptr<BlockBufferPool> buffers;
    UCM_RETURN_IF_ERROR(BlockBufferPool::Create(
        options.shape, std::max(options.write_buffer_bytes,
                                block_format::AlignUp(options.shape.bytes_per_block)),
        "the write buffer", &buffers));
    const std::shared_ptr<FileStore> opened(new FileStore(options, std::move(buffers)));
    UCM_RETURN_IF_ERROR(opened->OpenVolumes());
    opened->housekeeper_ = std::thread([raw = opened.get()] { raw->KeepHouse(); });
    *store = opened;
    return Status::Ok();
}

FileStore::FileStore(const FileStoreOptions& options, std::shared_ptr<BlockBufferPool> buffers)
    : options_(WithId(options)), buffers_(std::move(buffers)) {
    const auto count = options_.backends.size();
    const int threads = options_.threads > 0 ? options_.threads : DefaultThreads();
    const int each = std::max(2, threads / static_cast<int>(count));
    const IoPoolOptions pool{.threads = each,
                             .staging_bytes = std::max(options_.file.io_bytes,
                                                       block_format::HeaderBytes(options_.shape)),
                             .stall_timeout = options_.stall_timeout,
                             .total_timeout = options_.total_timeout};
    for (const std::string& folder : options_.backends) {
        Volume volume;
        volume.backend = std::make_shared<FileBackend>(
            options_, folder, options_.capacity_bytes / static_cast<int64_t>(count), counters_);
        volume.pool = std::make_unique<IoPool>(pool);
        volumes_.push_back(std::move(volume));
    }
}

FileStore::~FileStore() { Close(milliseconds(0)); }

Status FileStore::OpenVolumes() {
    std::vector<std::future<Status>> opened;
    for (Volume& volume : volumes_) {
        auto promise = std::make_shared<std::promise<Status>>();
        opened.push_back(promise->get_future());
        RunChore(volume, [promise](FileBackend& backend) { promise->set_value(backend.Open()); },
                 [] {});
    }
    for (std::size_t i = 0; i < volumes_.size(); ++i) {
        if (opened[i].wait_for(options_.stall_timeout) == std::future_status::ready) {
            UCM_RETURN_IF_ERROR(opened[i].get());
            continue;
        }
        CircuitBreaker& reads = volumes_[i].backend->reads();
        while (reads.closed()) reads.Fail();
    }
    return Status::Ok();
}

FileStore::Volume& FileStore::VolumeOf(const BlockKey& key) {
    return volumes_[PlaceOf(key.Word(), volumes_.size())];
}

std::vector<Presence> FileStore::LookupMemory(std::span<const BlockKey> keys) {
    return std::vector<Presence>(keys.size(), Presence::kMissing);
}

void FileStore::ForKeys(std::vector<BlockKey> keys, BlocksDone done,
                        const KeysTask::Action& action, const KeysTask::Undo& undo) {
    const auto batch = std::make_shared<StatusBatch>(keys.size(), std::move(done));
    std::vector<std::vector<KeysTask::Item>> items(volumes_.size());
    const auto submit = [&](std::size_t place) {
        volumes_[place].pool->Submit(std::make_shared<KeysTask>(
            volumes_[place].backend, std::exchange(items[place], {}), batch, action, undo));
    };
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const std::size_t place = PlaceOf(keys[i].Word(), volumes_.size());
        FileBackend& backend = *volumes_[place].backend;
        if (!backend.reads().closed()) {
            if (undo) undo(backend, keys[i], false);
            batch->Finish(i, BlockStatus::kUnavailable);
            continue;
        }
        items[place].push_back({keys[i], i});
        if (items[place].size() == kKeysPerTask) submit(place);
    }
    for (std::size_t place = 0; place < volumes_.size(); ++place) {
        if (!items[place].empty()) submit(place);
    }
}

void FileStore::Lookup(std::vector<BlockKey> keys, LookupDone done) {
    counters_->Add(Counter::kLookups, static_cast<int64_t>(keys.size()));
    const auto report = [counters = counters_, done = std::move(done)](
                            const std::vector<BlockStatus>& statuses) {
        std::vector<Presence> found;
        for (const BlockStatus status : statuses) {
            const bool present = status == BlockStatus::kOk;
            if (present) counters->Add(Counter::kLookupHits);
            found.push_back(present ? Presence::kFile : Presence::kMissing);
        }
        done(std::move(found));
    };
    ForKeys(
        std::move(keys), report,
        [](FileBackend& backend, const BlockKey& key) {
            return backend.Exists(key) ? BlockStatus::kOk : BlockStatus::kMissing;
        },
        {});
}

void FileStore::Load(std::shared_ptr<LoadBatch> batch) {
    for (std::size_t i = 0; i < batch->size(); ++i) LoadOne(batch, i, {});
}

void FileStore::LoadOne(const std::shared_ptr<LoadBatch>& batch, std::size_t index,
                        BlockLoaded loaded) {
    Volume& volume = VolumeOf(batch->target(index).key);
    if (!volume.backend->reads().closed()) {
        batch->Finish(index, BlockStatus::kUnavailable);
        return;
    }
    const uint64_t window = loads_.fetch_add(1) / kWindow;
    volume.pool->Submit(std::make_shared<LoadTask>(volume.backend, batch, index, window,
                                                   std::move(loaded)));
}

void FileStore::LoadPieces(std::vector<PieceTarget> pieces, BlocksDone done) {
    const auto batch = std::make_shared<PieceBatch>(std::move(pieces), std::move(done));
    batch->ForBlocks([&](std::size_t begin, std::size_t end) { LoadRun(batch, begin, end); });
}

void FileStore::LoadRun(const std::shared_ptr<PieceBatch>& batch, std::size_t begin,
                        std::size_t end) {
    Volume& volume = VolumeOf(batch->target(begin).key);
    if (!volume.backend->reads().closed()) {
        batch->Finish(begin, end, BlockStatus::kUnavailable);
        return;
    }
    const uint64_t window = loads_.fetch_add(1) / kWindow;
    volume.pool->Submit(
        std::make_shared<LoadPiecesTask>(volume.backend, batch, begin, end, window));
}

void FileStore::Dump(std::span<const DumpSource> blocks, BlocksDone done) {
    const auto batch = std::make_shared<StatusBatch>(blocks.size(), std::move(done));
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        if (Remembered(blocks[i].key) == Hint::kPresent) {
            counters_->Add(Counter::kDumpDuplicates);
            batch->Finish(i, BlockStatus::kOk);
            continue;
        }
        const bool usable = !options_.read_only;
        const std::shared_ptr<BlockBuffer> buffer = usable ? buffers_->TryAcquire() : nullptr;
        if (buffer == nullptr) {
            counters_->Add(Counter::kDumpsRefused);
            batch->Finish(i, BlockStatus::kRefused);
            continue;
        }
        buffer->Fill(blocks[i].data);
        DumpBuffer(blocks[i].key, buffer,
                   [batch, i](BlockStatus status) { batch->Finish(i, status); });
    }
}

void FileStore::DumpBuffer(const BlockKey& key, std::shared_ptr<BlockBuffer> block,
                           DumpTask::Done done) {
    if (options_.read_only) return done(BlockStatus::kRefused);
    Volume& volume = VolumeOf(key);
    if (!volume.backend->reads().closed()) return done(BlockStatus::kUnavailable);
    volume.pool->Submit(std::make_shared<DumpTask>(volume.backend, key, std::move(block),
                                                   std::move(done)));
}

void FileStore::Pin(std::vector<BlockKey> keys, BlocksDone done) {
    for (const BlockKey& key : keys) VolumeOf(key).backend->AddPin(key);
    ForKeys(
        std::move(keys), std::move(done),
        [](FileBackend& backend, const BlockKey& key) { return backend.Pin(key); },
        [](FileBackend& backend, const BlockKey& key, bool acted) {
            backend.DropPin(key);
            if (acted) backend.Unpin(key);
        });
}

void FileStore::Unpin(std::vector<BlockKey> keys) {
    for (const BlockKey& key : keys) VolumeOf(key).backend->DropPin(key);
    ForKeys(
        std::move(keys), [](const std::vector<BlockStatus>&) {},
        [](FileBackend& backend, const BlockKey& key) {
            backend.Unpin(key);
            return BlockStatus::kOk;
        },
        {});
}

void FileStore::Forget(std::vector<BlockKey> keys, BlocksDone done) {
    ForKeys(
        std::move(keys), std::move(done),
        [](FileBackend& backend, const BlockKey& key) { return backend.Forget(key); }, {});
}

bool FileStore::RunChore(Volume& volume, std::function<void(FileBackend&)> chore,
                         std::function<void()> done) {
    if (volume.busy->exchange(true)) return false;
    volume.pool->Submit(std::make_shared<ChoreTask>(
        volume.backend, std::move(chore), [busy = volume.busy, done = std::move(done)] {
            busy->store(false);
            done();
        }));
    return true;
}

void FileStore::DoChores(Volume& volume, Clock::time_point now) {
    FileBackend& backend = *volume.backend;
    if (!backend.reads().closed()) {
        if (!volume.busy->load() && backend.reads().Admit(now)) {
            RunChore(volume, [](FileBackend& target) { target.Probe(); }, [] {});
        }
        return;
    }
    const bool clean = now >= volume.next_cleaning;
    if (now < volume.next_heartbeat && !clean && !backend.space().WantsCollection()) return;
    const seconds interval = options_.capacity_bytes > 0 ? kCollection : kCleaning;
    // What a server that was killed left is there at the start, however recently someone cleaned.
    const seconds age = volume.next_cleaning == Clock::time_point() ? seconds(0) : interval;
    const auto chore = [clean, age](FileBackend& target) {
        target.Maintain();
        if (clean) target.Clean(age);
    };
    if (!RunChore(volume, chore, [] {})) return;
    volume.next_heartbeat = now + kHeartbeat;
    if (clean) volume.next_cleaning = now + interval;
}

void FileStore::KeepHouse() {
    std::unique_lock lock(mutex_);
    while (!closing_) {
        for (Volume& volume : volumes_) DoChores(volume, Clock::now());
        wake_.wait_for(lock, kHousekeeping, [&] { return closing_; });
    }
}

void FileStore::CollectNow() {
    for (Volume& volume : volumes_) {
        const auto finished = std::make_shared<std::promise<void>>();
        std::future<void> future = finished->get_future();
        while (!RunChore(volume, [](FileBackend& target) { target.Clean(seconds(0)); },
                         [finished] { finished->set_value(); })) {
            std::this_thread::sleep_for(milliseconds(1));
        }
        future.wait();
    }
}

std::vector<TierStats> FileStore::Stats() const {
    TierStats stats{"files", counters_->Values()};
    const auto add = [&](const char* name, auto value_of) {
        int64_t sum = 0;
        for (const Volume& volume : volumes_) sum += static_cast<int64_t>(value_of(volume));
        stats.values.emplace_back(name, sum);
    };
    add("usedBytes", [](const Volume& volume) { return volume.backend->space().used_bytes(); });
    stats.values.emplace_back("capacityBytes", options_.capacity_bytes);
    add("pinnedBlocks", [](const Volume& volume) { return volume.backend->pinned(); });
    stats.values.emplace_back("buffersInUse", buffers_->in_use());
    add("backendsOut", [](const Volume& volume) { return !volume.backend->reads().closed(); });
    add("breakerOpenings", [](const Volume& volume) {
        return volume.backend->reads().openings() + volume.backend->writes().openings();
    });
    add("stuckThreads", [](const Volume& volume) { return volume.pool->stuck(); });
    add("threadsGivenUp", [](const Volume& volume) { return volume.pool->given_up(); });
    return {stats};
}

void FileStore::Close(milliseconds patience) {
    {
        const std::lock_guard lock(mutex_);
        if (closing_) return;
        closing_ = true;
    }
    wake_.notify_all();
    if (housekeeper_.joinable()) housekeeper_.join();
    const auto deadline = Clock::now() + patience;
    const auto left = [&] {
        const auto time = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
        return std::max(time, milliseconds(0));
    };
    for (Volume& volume : volumes_) volume.pool->Drain(left());
    for (Volume& volume : volumes_) {
        if (volume.backend->reads().closed()) {
            volume.pool->Submit(std::make_shared<ChoreTask>(
                volume.backend, [](FileBackend& backend) { backend.Leave(); }, [] {}));
        }
    }
    for (Volume& volume : volumes_) volume.pool->Close(std::max(left(), kFarewell));
}

}  // namespace ucm
