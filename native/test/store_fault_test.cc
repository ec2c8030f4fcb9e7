// Every call fails in every way, once, or from then on; and mounts that hang.
#include <cerrno>
#include <thread>

#include "store/dram_store.h"
#include "store/pipeline_store.h"
#include "test/store_backend.h"
#include "test/store_file_systems.h"

namespace ucm::test {
namespace {

using std::chrono::milliseconds;

constexpr int kErrors[] = {ENOSPC, EDQUOT, EIO,   ESTALE, EROFS,     EACCES,
                           EINTR,  EINVAL, ENOENT, EMFILE, EOPNOTSUPP, ETIMEDOUT};

struct Rig {
    explicit Rig(bool direct = false) : memory(std::make_shared<MemoryFileSystem>()),
                   hooked(std::make_shared<HookedFileSystem>(memory)) {
        memory->MakeDirectory("/m");
        options = SmallOptions("/m");
        options.files = hooked;
        options.file.direct = direct;
        options.file.sync = SyncPolicy::kData;
        options.capacity_bytes = 12 * 20480;
        // The breaker has tests of its own.
        options.breaker.failures = 1'000'000;
    }

    std::shared_ptr<MemoryFileSystem> memory;
    std::shared_ptr<HookedFileSystem> hooked;
    FileStoreOptions options;
};

/** A bit of everything. Nothing here may fail but by a status. */
void Work(SyncBackend& store) {
    for (const BlockKey& key : KeysFrom(0, 3)) {
        store.Dump(key);
        store.backend().Exists(key);
        store.Load(key);
    }
    store.backend().AddPin(KeyOf(0));
    if (store.backend().Pin(KeyOf(0)) == BlockStatus::kOk) {
        store.Load(KeyOf(0));
        store.backend().DropPin(KeyOf(0));
        store.backend().Unpin(KeyOf(0));
    }
    store.backend().Forget(KeyOf(1));
    for (const BlockKey& key : KeysFrom(3, 8)) store.Dump(key);
    store.backend().Clean(std::chrono::seconds(0));
    store.backend().Probe();
    for (const BlockKey& key : KeysFrom(0, 11)) store.Load(key);
}

/** What was not damaged by a fault is as it was, and the store works again. */
void CheckAfterwards(Rig& rig) {
    rig.hooked->SetHook(nullptr);
    SyncBackend store(rig.options);
    store.Open();
    for (const BlockKey& key : KeysFrom(0, 11)) {
        const BlockStatus status = store.Load(key);
        UCM_CHECK(status == BlockStatus::kOk || status == BlockStatus::kMissing);
    }
    store.backend().Clean(std::chrono::seconds(0));
    const BlockStatus dumped = store.Dump(KeyOf(20));
    UCM_CHECK(dumped == BlockStatus::kOk && store.Load(KeyOf(20)) == BlockStatus::kOk);
}

int64_t CountCalls() {
    Rig rig;
    SyncBackend store(rig.options);
    int64_t calls = 0;
    rig.hooked->SetHook([&](Call, const std::string&, std::size_t) {
        ++calls;
        return 0;
    });
    store.Open();
    Work(store);
    return calls;
}

UCM_TEST(store_every_errno_at_every_call) {
    const int64_t calls = CountCalls();
    UCM_CHECK(calls > 300);
    const int64_t step = std::max<int64_t>(1, 7 / Trials(7));
    int64_t runs = 0;
    for (const int error : kErrors) {
        for (const bool lasting : {false, true}) {
            for (int64_t at = runs % step; at < calls; at += step) {
                Rig rig;
                SyncBackend store(rig.options);
                int64_t call = 0;
                rig.hooked->SetHook([&](Call, const std::string&, std::size_t) -> int64_t {
                    const int64_t now = call++;
                    return now == at || (lasting && now > at) ? -error : 0;
                });
                if (store.TryOpen().ok()) Work(store);
                CheckAfterwards(rig);
                ++runs;
            }
        }
    }
    std::printf("   %lld runs, each with one fault of %lld possible calls\n",
                static_cast<long long>(runs), static_cast<long long>(calls));
}

UCM_TEST(store_short_reads_and_writes_and_interruptions) {
    Random random(9);
    for (const bool direct : {false, true}) {
        for (int64_t trial = 0; trial < Trials(300); ++trial) {
            Rig rig(direct);
            SyncBackend store(rig.options);
            store.Open();
            int64_t interrupted = 0;
            rig.hooked->SetHook([&](Call call, const std::string&, std::size_t size) -> int64_t {
                // Never so often in a row that it looks as if it would go on for ever.
                if (random.Integer(0, 3) == 0 && ++interrupted < 20 &&
                    (call == Call::kRead || call == Call::kWrite || call == Call::kOpen)) {
                    return -EINTR;
                }
                interrupted = 0;
                if (size <= 1024 || random.Integer(0, 1) == 0) return 0;
                return random.Integer(0, 1) == 0
                           ? random.Integer(1, static_cast<int64_t>(size))
                           : random.Integer(1, static_cast<int64_t>(size) / 512) * 512;
            });
            for (const BlockKey& key : KeysFrom(0, 4)) {
                UCM_CHECK(store.Dump(key) == BlockStatus::kOk);
                UCM_CHECK(store.Load(key) == BlockStatus::kOk);
            }
        }
    }
}

UCM_TEST(store_direct_io_is_given_up_where_it_is_refused) {
    for (const Call refusing : {Call::kOpen, Call::kWrite, Call::kRead}) {
        Rig rig(true);
        SyncBackend store(rig.options);
        store.Open();
        bool refused = false;
        rig.hooked->SetHook([&](Call call, const std::string& path, std::size_t size) -> int64_t {
            const bool of_block = path.ends_with(".tmp") || path.ends_with(".kv") || size >= 4096;
            if (call != refusing || refused || !of_block) return 0;
            refused = true;
            return -EINVAL;
        });
        UCM_CHECK(store.Dump(KeyOf(0)) == BlockStatus::kOk);
        UCM_CHECK(store.Load(KeyOf(0)) == BlockStatus::kOk);
        UCM_CHECK(refused);
    }
}

/** Network file systems tell of failed writes when the file is closed. */
UCM_TEST(store_failed_close_hides_the_block) {
    Rig rig;
    SyncBackend store(rig.options);
    store.Open();
    const auto files_with = [&](const std::string& suffix) {
        const auto& files = rig.memory->tree().files;
        return std::count_if(files.begin(), files.end(), [&](const auto& entry) {
            return entry.first.ends_with(suffix);
        });
    };
    // The first close is that of the claim, which was made with the first dump.
    UCM_CHECK(store.Dump(KeyOf(0)) == BlockStatus::kOk);
    rig.hooked->SetHook([](Call call, const std::string&, std::size_t) -> int64_t {
        return call == Call::kClose ? -EIO : 0;
    });
    UCM_CHECK(store.Dump(KeyOf(1)) == BlockStatus::kFailed);
    UCM_CHECK(files_with(".kv") == 1 && files_with(".tmp") == 0);
}

/** Between the read of a damaged file and its removal, another server may have written a good one. */
UCM_TEST(store_good_file_is_not_quarantined_for_a_bad_one) {
    Rig rig;
    SyncBackend store(rig.options);
    store.Open();
    UCM_CHECK(store.Dump(KeyOf(0)) == BlockStatus::kOk);
    const std::string path = store.backend().layout().BlockFile(KeyOf(0));
    auto& entry = rig.memory->tree().files.at(path);
    const auto good = std::make_shared<MemoryFileSystem::Inode>(*entry);
    good->number += 1000;
    entry->content[7000] ^= 1;
    rig.hooked->SetHook([&](Call call, const std::string&, std::size_t) -> int64_t {
        if (call == Call::kRead) rig.memory->tree().files[path] = good;
        return 0;
    });
    UCM_CHECK(store.Load(KeyOf(0)) == BlockStatus::kCorrupt);
    UCM_CHECK(store.backend().counters().Get(Counter::kQuarantinedBlocks) == 0);
    UCM_CHECK(store.Load(KeyOf(0)) == BlockStatus::kOk);
}

/** A store on a mount that can be made to hang. */
struct HangingRig {
    HangingRig() {
        memory->MakeDirectory("/m");
        hooked->SetHook([gate = gate](Call, const std::string&, std::size_t) -> int64_t {
            gate->Pass();
            return 0;
        });
        options = SmallOptions("/m");
        options.files = hooked;
        options.stall_timeout = milliseconds(150);
        options.breaker.first_pause = milliseconds(100);
        options.breaker.longest_pause = milliseconds(200);
    }
    ~HangingRig() { gate->Open(); }

    std::shared_ptr<Gate> gate = std::make_shared<Gate>();
    std::shared_ptr<MemoryFileSystem> memory = std::make_shared<MemoryFileSystem>();
    std::shared_ptr<HookedFileSystem> hooked = std::make_shared<HookedFileSystem>(memory);
    FileStoreOptions options;
};

template <typename Body>
milliseconds TimeOf(Body body) {
    const auto start = Clock::now();
    body();
    return std::chrono::duration_cast<milliseconds>(Clock::now() - start);
}

UCM_TEST(store_a_hung_mount_hangs_nobody) {
    HangingRig rig;
    const auto store = OpenFiles(rig.options);
    const std::vector<BlockKey> keys = KeysFrom(0, 60);
    UCM_CHECK(CountOf(DumpAll(*store, keys), BlockStatus::kOk) == 60);
    for (int round = 0; round < 2; ++round) {
        rig.gate->Shut();
        // Loads, lookups, dumps and pins end within the timeout, however many there are.
        const milliseconds loading = TimeOf([&] {
            UCM_CHECK(CountOf(LoadAll(*store, keys), BlockStatus::kOk) == 0);
        });
        UCM_CHECK_MESSAGE(loading < milliseconds(2000), std::to_string(loading.count()));
        Eventually([&] { return StatOf(*store, "backendsOut") == 1; });
        UCM_CHECK(StatOf(*store, "threadsGivenUp") > 0);
        // From then on they end at once.
        const milliseconds refusing = TimeOf([&] {
            UCM_CHECK(AllAre(LoadAll(*store, keys), BlockStatus::kUnavailable));
            UCM_CHECK(AllAre(PinAll(*store, keys), BlockStatus::kUnavailable));
            UCM_CHECK(LookupAll(*store, keys)[5] == Presence::kMissing);
        });
        UCM_CHECK_MESSAGE(refusing < milliseconds(100), std::to_string(refusing.count()));
        UCM_CHECK(CountOf(DumpAll(*store, KeysFrom(100, 4)), BlockStatus::kOk) == 0);
        rig.gate->Open();
        Eventually([&] { return StatOf(*store, "backendsOut") == 0; });
        UCM_CHECK(AllAre(LoadAll(*store, keys), BlockStatus::kOk));
        Eventually([&] { return StatOf(*store, "stuckThreads") == 0; });
    }
    UCM_CHECK(StatOf(*store, "breakerOpenings") >= 2 && StatOf(*store, "loadTimeouts") > 0);
    Eventually([&] { return CountOf(DumpAll(*store, KeysFrom(200, 4)), BlockStatus::kOk) == 4; });
}

UCM_TEST(store_lookups_on_a_hung_mount_find_nothing_in_time) {
    HangingRig rig;
    const std::vector<BlockKey> keys = KeysFrom(0, 60);
    UCM_CHECK(CountOf(DumpAll(*OpenFiles(rig.options), keys), BlockStatus::kOk) == 60);
    const auto store = OpenFiles(rig.options);
    rig.gate->Shut();
    const milliseconds looking = TimeOf([&] {
        for (const Presence presence : LookupAll(*store, keys)) {
            UCM_CHECK(presence == Presence::kMissing);
        }
    });
    UCM_CHECK_MESSAGE(looking < milliseconds(2000), std::to_string(looking.count()));
    rig.gate->Open();
    // What was not answered was not learnt either.
    Eventually([&] {
        const std::vector<Presence> found = LookupAll(*store, keys);
        return std::count(found.begin(), found.end(), Presence::kFile) == 60;
    });
}

UCM_TEST(store_memory_of_a_given_up_load_is_left_alone) {
    HangingRig rig;
    // All of the block comes with the first read.
    rig.options.file.io_bytes = 65536;
    const auto store = OpenFiles(rig.options);
    UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 1)), BlockStatus::kOk));
    // Calls before the read pass, the read hangs.
    const auto reads = std::make_shared<Gate>();
    rig.hooked->SetHook([reads](Call call, const std::string&, std::size_t) -> int64_t {
        if (call == Call::kRead) reads->Pass();
        return 0;
    });
    reads->Shut();
    std::vector<uint8_t> block(static_cast<std::size_t>(kSmallShape.bytes_per_block), 0x5a);
    std::atomic<int> done{0};
    store->Load(std::make_shared<LoadBatch>(
        std::vector<LoadTarget>{{KeyOf(0), block.data()}}, kSmallShape.num_layers,
        LoadBatch::Progress(), [&](const std::vector<BlockStatus>& statuses) {
            UCM_CHECK(statuses.front() == BlockStatus::kTimeout);
            ++done;
        }));
    Eventually([&] { return done.load() == 1; });
    reads->Open();
    Eventually([&] { return StatOf(*store, "stuckThreads") == 0; });
    UCM_CHECK(std::count(block.begin(), block.end(), 0x5a) == kSmallShape.bytes_per_block);
    UCM_CHECK(done.load() == 1);
}

UCM_TEST(store_closes_while_its_mount_hangs) {
    HangingRig rig;
    const auto memory = std::make_shared<MemoryFileSystem>();
    {
        const auto store = OpenFiles(rig.options);
        UCM_CHECK(CountOf(DumpAll(*store, KeysFrom(0, 10)), BlockStatus::kOk) == 10);
        rig.gate->Shut();
        std::atomic<int> done{0};
        std::vector<uint8_t> block(static_cast<std::size_t>(kSmallShape.bytes_per_block));
        store->Load(std::make_shared<LoadBatch>(
            std::vector<LoadTarget>{{KeyOf(0), block.data()}}, kSmallShape.num_layers,
            LoadBatch::Progress(), [&](const std::vector<BlockStatus>&) { ++done; }));
        const milliseconds closing = TimeOf([&] { store->Close(milliseconds(100)); });
        UCM_CHECK_MESSAGE(closing < milliseconds(2000), std::to_string(closing.count()));
        UCM_CHECK(done.load() == 1);
    }
    rig.gate->Open();
    std::this_thread::sleep_for(milliseconds(20));
}

UCM_TEST(store_opens_while_one_of_its_mounts_hangs) {
    HangingRig rig;
    rig.memory->MakeDirectory("/n");
    rig.hooked->SetHook([gate = rig.gate](Call, const std::string& path, std::size_t) -> int64_t {
        if (path.starts_with("/n")) gate->Pass();
        return 0;
    });
    rig.options.backends = {"/m", "/n"};
    rig.gate->Shut();
    std::shared_ptr<FileStore> store;
    const milliseconds opening = TimeOf([&] { store = OpenFiles(rig.options); });
    UCM_CHECK(opening < milliseconds(2000));
    const std::vector<BlockKey> keys = KeysFrom(0, 40);
    const std::vector<BlockStatus> dumped = DumpAll(*store, keys);
    const int64_t stored = CountOf(dumped, BlockStatus::kOk);
    UCM_CHECK(stored > 5 && stored < 35);
    UCM_CHECK(CountOf(LoadAll(*store, keys), BlockStatus::kOk) == stored);
    rig.gate->Open();
    Eventually([&] { return StatOf(*store, "backendsOut") == 0; });
    Eventually([&] { return CountOf(DumpAll(*store, keys), BlockStatus::kOk) == 40; });
    UCM_CHECK(AllAre(LoadAll(*store, keys), BlockStatus::kOk));
}

UCM_TEST(store_failing_device_is_left_alone_and_tried_again) {
    HangingRig rig;
    std::atomic<bool> failing{false};
    rig.hooked->SetHook([&](Call call, const std::string&, std::size_t) -> int64_t {
        return failing.load() && call != Call::kClose ? -EIO : 0;
    });
    const auto store = OpenFiles(rig.options);
    const std::vector<BlockKey> keys = KeysFrom(0, 20);
    UCM_CHECK(AllAre(DumpAll(*store, keys), BlockStatus::kOk));
    failing.store(true);
    const std::vector<BlockStatus> statuses = LoadAll(*store, keys);
    UCM_CHECK(CountOf(statuses, BlockStatus::kOk) == 0);
    UCM_CHECK(CountOf(statuses, BlockStatus::kFailed) >= 3);
    Eventually([&] { return StatOf(*store, "backendsOut") == 1; });
    failing.store(false);
    Eventually([&] { return StatOf(*store, "backendsOut") == 0; });
    UCM_CHECK(AllAre(LoadAll(*store, keys), BlockStatus::kOk));
    store->Close(milliseconds(1000));
}

UCM_TEST(store_a_full_disk_stops_dumps_not_loads) {
    HangingRig rig;
    std::atomic<bool> full{false};
    rig.hooked->SetHook([&](Call call, const std::string&, std::size_t) -> int64_t {
        return full.load() && call == Call::kWrite ? -ENOSPC : 0;
    });
    const auto store = OpenFiles(rig.options);
    UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 10)), BlockStatus::kOk));
    full.store(true);
    for (int i = 0; i < 5; ++i) {
        UCM_CHECK(CountOf(DumpAll(*store, KeysFrom(20, 5)), BlockStatus::kOk) == 0);
        UCM_CHECK(AllAre(LoadAll(*store, KeysFrom(0, 10)), BlockStatus::kOk));
    }
    UCM_CHECK(StatOf(*store, "backendsOut") == 0 && StatOf(*store, "dumpFailures") >= 3);
    // Maintenance may be about to write, and to take away again, a file of its own.
    Eventually([&] {
        return std::ranges::none_of(rig.memory->Paths(), [](const std::string& path) {
            return path.ends_with(".tmp");
        });
    });
    full.store(false);
    Eventually([&] { return CountOf(DumpAll(*store, KeysFrom(20, 5)), BlockStatus::kOk) == 5; });
    store->Close(milliseconds(1000));
}

UCM_TEST(store_forgotten_blocks_are_not_written_later) {
    HangingRig rig;
    const auto writes = std::make_shared<Gate>();
    rig.hooked->SetHook([writes](Call call, const std::string&, std::size_t) -> int64_t {
        if (call == Call::kWrite) writes->Pass();
        return 0;
    });
    rig.options.stall_timeout = milliseconds(10000);
    std::shared_ptr<DramStore> memory;
    UCM_CHECK(DramStore::Open({.shape = kSmallShape, .capacity_bytes = 60 * 16384, .threads = 2},
                              &memory)
                  .ok());
    PipelineStore store(memory, OpenFiles(rig.options), 100);
    writes->Shut();
    const std::vector<BlockKey> keys = KeysFrom(0, 40);
    UCM_CHECK(AllAre(DumpAll(store, keys), BlockStatus::kOk));
    UCM_CHECK(AllAre(ForgetAll(store, {keys[38], keys[39]}), BlockStatus::kOk));
    writes->Open();
    Eventually([&] { return StatOf(store, "queuedWrites", "files") == 0; });
    const std::vector<BlockStatus> statuses = LoadAll(store, keys);
    UCM_CHECK(CountOf(statuses, BlockStatus::kOk) == 38);
    UCM_CHECK(statuses[38] == BlockStatus::kMissing && statuses[39] == BlockStatus::kMissing);
    UCM_CHECK(StatOf(store, "dumpedBlocks", "files") == 38);
    store.Close(milliseconds(1000));
}

/** While files hang, the memory in front of them serves; what cannot wait is dropped, and counted. */
UCM_TEST(store_pipeline_outlives_a_hung_mount) {
    HangingRig rig;
    std::shared_ptr<DramStore> memory;
    UCM_CHECK(DramStore::Open({.shape = kSmallShape, .capacity_bytes = 20 * 16384, .threads = 2},
                              &memory)
                  .ok());
    PipelineStore store(memory, OpenFiles(rig.options), 6);
    rig.gate->Shut();
    int64_t stored = 0;
    const milliseconds dumping = TimeOf([&] {
        for (const BlockKey& key : KeysFrom(0, 60)) {
            stored += CountOf(DumpAll(store, {key}), BlockStatus::kOk);
        }
    });
    UCM_CHECK_MESSAGE(dumping < milliseconds(500), std::to_string(dumping.count()));
    UCM_CHECK(stored > 40);
    const std::vector<Presence> found = store.LookupMemory(KeysFrom(58, 2));
    UCM_CHECK(found[0] == Presence::kMemory && found[1] == Presence::kMemory);
    UCM_CHECK(AllAre(LoadAll(store, KeysFrom(58, 2)), BlockStatus::kOk));
    UCM_CHECK(StatOf(store, "dumpsDropped", "files") > 0);
    rig.gate->Open();
    store.Close(milliseconds(1000));
}

}  // namespace
}  // namespace ucm::test
