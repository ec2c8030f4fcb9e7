// Quota, recycling, pins and leftovers in a folder that several servers share.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "store/folder_scan.h"
#include "test/store_backend.h"
#include "test/store_file_systems.h"

namespace ucm::test {
namespace {

using std::chrono::milliseconds;

/** What one small block takes on disk. */
constexpr int64_t kFileBytes = 20480;
constexpr int64_t kMinute = int64_t{60} * 1'000'000'000;

struct MemoryRig {
    explicit MemoryRig(int64_t capacity_blocks) {
        files->MakeDirectory("/m");
        options = SmallOptions("/m");
        options.files = files;
        options.capacity_bytes = capacity_blocks * kFileBytes;
    }
    /** The blocks that are there, of `keys`. */
    int64_t CountFiles(SyncBackend& store, const std::vector<BlockKey>& keys) {
        return std::count_if(keys.begin(), keys.end(), [&](const BlockKey& key) {
            return files->tree().files.contains(store.backend().layout().BlockFile(key));
        });
    }

    std::shared_ptr<MemoryFileSystem> files = std::make_shared<MemoryFileSystem>();
    FileStoreOptions options;
};

UCM_TEST(store_recycles_the_least_recently_read) {
    MemoryRig rig(20);
    SyncBackend store(rig.options);
    store.Open();
    const std::vector<BlockKey> keys = KeysFrom(0, 13);
    for (const BlockKey& key : keys) UCM_CHECK(store.Dump(key) == BlockStatus::kOk);
    store.backend().Clean(std::chrono::seconds(0));
    UCM_CHECK(rig.CountFiles(store, keys) == 13);
    // The first ones are read, long after they were written: that makes them the last to go.
    for (const BlockKey& key : {keys[0], keys[1]}) {
        auto& file = *rig.files->tree().files.at(store.backend().layout().BlockFile(key));
        file.write_time = file.read_time = 1;
        UCM_CHECK(store.Load(key) == BlockStatus::kOk);
        UCM_CHECK(file.read_time > 1);
    }
    for (const BlockKey& key : KeysFrom(50, 6)) UCM_CHECK(store.Dump(key) == BlockStatus::kOk);
    store.backend().Maintain();
    // Over 70 % of 20, so down to 60 %.
    UCM_CHECK(rig.CountFiles(store, keys) + rig.CountFiles(store, KeysFrom(50, 6)) <= 14);
    UCM_CHECK(rig.CountFiles(store, {keys[0], keys[1]}) == 2);
    UCM_CHECK(rig.CountFiles(store, {keys[2], keys[3], keys[4]}) == 0);
    UCM_CHECK(store.backend().counters().Get(Counter::kEvictedBlocks) >= 5);
    UCM_CHECK(store.Load(keys[2]) == BlockStatus::kMissing);
}

UCM_TEST(store_without_recycling_refuses_at_the_quota) {
    MemoryRig rig(5);
    rig.options.recycle = false;
    SyncBackend store(rig.options);
    store.Open();
    int64_t stored = 0;
    for (const BlockKey& key : KeysFrom(0, 10)) stored += store.Dump(key) == BlockStatus::kOk;
    UCM_CHECK(stored == 5);
    UCM_CHECK(store.backend().counters().Get(Counter::kDumpsRefused) == 5);
    UCM_CHECK(store.backend().Forget(KeyOf(0)) == BlockStatus::kOk);
    UCM_CHECK(store.Dump(KeyOf(20)) == BlockStatus::kOk);
    UCM_CHECK(store.Dump(KeyOf(21)) == BlockStatus::kRefused);
}

UCM_TEST(store_quota_counts_the_claims_of_others) {
    MemoryRig rig(10);
    rig.options.recycle = false;
    SyncBackend store(rig.options);
    SyncBackend other(rig.options);
    store.Open();
    other.Open();
    // Six blocks that the other server is about to write.
    UCM_CHECK(other.backend().space().Claim(6 * kFileBytes));
    int64_t stored = 0;
    for (const BlockKey& key : KeysFrom(0, 10)) stored += store.Dump(key) == BlockStatus::kOk;
    UCM_CHECK_MESSAGE(stored >= 2 && stored <= 4, std::to_string(stored));
    // It does not write them; what it published is free again.
    other.backend().space().Settle(6 * kFileBytes, false);
    other.backend().Leave();
    for (const BlockKey& key : KeysFrom(10, 10)) stored += store.Dump(key) == BlockStatus::kOk;
    UCM_CHECK_MESSAGE(stored >= 10, std::to_string(stored));
}

/** A block that is pinned or read after a collector looked at it stays. */
UCM_TEST(store_recycling_looks_again_before_it_removes) {
    for (const bool pin : {true, false}) {
        MemoryRig rig(10);
        const auto hooked = std::make_shared<HookedFileSystem>(rig.files);
        rig.options.files = hooked;
        SyncBackend store(rig.options);
        store.Open();
        const std::vector<BlockKey> keys = KeysFrom(0, 9);
        for (const BlockKey& key : keys) UCM_CHECK(store.Dump(key) == BlockStatus::kOk);
        const std::string path = store.backend().layout().BlockFile(keys[0]);
        int looks = 0;
        hooked->SetHook([&](Call call, const std::string& asked, std::size_t) -> int64_t {
            if (call != Call::kPathStatus || asked != path || ++looks != 2) return 0;
            if (pin) {
                UCM_CHECK(rig.files->Link(path, "/m/ucm-v1/pin") == 0);
            } else {
                auto& file = *rig.files->tree().files.at(path);
                file.read_time = file.write_time + 5;
            }
            return 0;
        });
        store.backend().space().Collect(kFileBytes);
        UCM_CHECK(looks == 2 && rig.files->tree().files.contains(path));
        UCM_CHECK(!rig.files->tree().files.contains(store.backend().layout().BlockFile(keys[1])));
    }
}

UCM_TEST(store_never_recycles_pinned_blocks) {
    MemoryRig rig(10);
    SyncBackend store(rig.options);
    SyncBackend other(rig.options);
    store.Open();
    other.Open();
    const std::vector<BlockKey> pinned = KeysFrom(0, 5);
    for (const BlockKey& key : pinned) {
        UCM_CHECK(store.Dump(key) == BlockStatus::kOk);
        store.backend().AddPin(key);
        UCM_CHECK(store.backend().Pin(key) == BlockStatus::kOk);
    }
    // The other server, which knows of no pin, needs the room.
    for (const BlockKey& key : KeysFrom(100, 40)) other.Dump(key);
    for (const BlockKey& key : pinned) UCM_CHECK(store.Load(key) == BlockStatus::kOk);
    // Even removed, they are there for the one who pinned them.
    UCM_CHECK(other.backend().Forget(pinned[0]) == BlockStatus::kOk);
    UCM_CHECK(other.Load(pinned[0]) == BlockStatus::kMissing);
    UCM_CHECK(store.Load(pinned[0]) == BlockStatus::kOk && store.backend().Exists(pinned[0]));
    for (const BlockKey& key : pinned) {
        store.backend().DropPin(key);
        store.backend().Unpin(key);
    }
    UCM_CHECK(store.Load(pinned[0]) == BlockStatus::kMissing);
    for (const BlockKey& key : KeysFrom(200, 40)) other.Dump(key);
    UCM_CHECK(rig.CountFiles(store, pinned) == 0);
    UCM_CHECK(store.backend().pinned() == 0);
}

UCM_TEST(store_refuses_when_everything_is_pinned) {
    MemoryRig rig(4);
    SyncBackend store(rig.options);
    store.Open();
    for (const BlockKey& key : KeysFrom(0, 4)) {
        if (store.Dump(key) != BlockStatus::kOk) break;
        store.backend().AddPin(key);
        UCM_CHECK(store.backend().Pin(key) == BlockStatus::kOk);
    }
    for (const BlockKey& key : KeysFrom(10, 6)) store.Dump(key);
    UCM_CHECK(store.backend().counters().Get(Counter::kDumpsRefused) > 0);
    UCM_CHECK(store.Load(KeyOf(0)) == BlockStatus::kOk);
}

/** Where a file system has no hard links, the server itself still keeps its pinned blocks. */
UCM_TEST(store_pins_without_hard_links) {
    MemoryRig rig(10);
    const auto hooked = std::make_shared<HookedFileSystem>(rig.files);
    hooked->SetHook([](Call call, const std::string&, std::size_t) -> int64_t {
        return call == Call::kLink ? -EPERM : 0;
    });
    rig.options.files = hooked;
    SyncBackend store(rig.options);
    store.Open();
    UCM_CHECK(store.Dump(KeyOf(0)) == BlockStatus::kOk);
    store.backend().AddPin(KeyOf(0));
    UCM_CHECK(store.backend().Pin(KeyOf(0)) == BlockStatus::kOk);
    store.backend().AddPin(KeyOf(9));
    UCM_CHECK(store.backend().Pin(KeyOf(9)) == BlockStatus::kMissing);
    for (const BlockKey& key : KeysFrom(100, 40)) store.Dump(key);
    UCM_CHECK(store.Load(KeyOf(0)) == BlockStatus::kOk);
}

UCM_TEST(store_reclaims_what_dead_servers_left) {
    MemoryRig rig(20);
    SyncBackend store(rig.options);
    store.Open();
    UCM_CHECK(store.Dump(KeyOf(0)) == BlockStatus::kOk);
    const StoreLayout& layout = store.backend().layout();
    const auto put = [&](const std::string& path, int64_t age) {
        auto inode = std::make_shared<MemoryFileSystem::Inode>();
        inode->links = 1;
        inode->number = 5000 + rig.files->tree().files.size();
        inode->write_time = (int64_t{1} << 60) - age;
        rig.files->tree().files[path] = inode;
    };
    ServerId elsewhere{.host = "0badcafe", .pid = 7, .nonce = "11111111"};
    ServerId dead = ServerId::Make();
    dead.pid = 999'999'999;
    UCM_CHECK(dead.IsKnownDead() && !ServerId::Make().IsKnownDead() && !elsewhere.IsKnownDead());
    const std::string shard = layout.ShardFolder(KeyOf(0)) + "/";
    const std::string name = shard + KeyOf(1).Hex() + ".";
    put(name + dead.Name() + ".1.tmp", 0);
    put(name + elsewhere.Name() + ".1.tmp", kMinute);
    put(name + elsewhere.Name() + ".2.tmp", 20 * kMinute);
    put(shard + "notes.txt", 1000 * kMinute);
    for (const ServerId& server : {dead, elsewhere}) {
        const std::string folder = layout.servers_folder() + "/" + server.Name();
        rig.files->MakeDirectory(folder);
        rig.files->MakeDirectory(folder + "/pins");
        put(folder + "/reserved", 0);
        put(folder + "/pins/" + KeyOf(2).Hex() + ".kv", 0);
    }
    for (int i = 0; i < 80; ++i) {
        put(layout.quarantine_folder() + "/q" + std::to_string(i), i * kMinute);
    }
    put(layout.collector_file(), 0);
    rig.files->tree().files[layout.collector_file()]->content = dead.Name();
    const auto exists = [&](const std::string& path) { return rig.files->tree().files.contains(path); };
    store.backend().Clean(std::chrono::seconds(0));
    UCM_CHECK(!exists(name + dead.Name() + ".1.tmp") && !exists(name + elsewhere.Name() + ".2.tmp"));
    UCM_CHECK(exists(name + elsewhere.Name() + ".1.tmp") && exists(shard + "notes.txt"));
    UCM_CHECK(!exists(layout.servers_folder() + "/" + dead.Name() + "/reserved"));
    UCM_CHECK(exists(layout.servers_folder() + "/" + elsewhere.Name() + "/reserved"));
    UCM_CHECK(exists(layout.quarantine_folder() + "/q0") && !exists(layout.quarantine_folder() + "/q79"));
    UCM_CHECK(!exists(layout.collector_file()));
    // A server elsewhere that shows no sign of life is dead after a while.
    rig.files->AdvanceClock(5 * kMinute);
    store.backend().Clean(std::chrono::seconds(0));
    UCM_CHECK(!exists(layout.servers_folder() + "/" + elsewhere.Name() + "/reserved"));
    UCM_CHECK(exists(layout.reservation_file()) && store.Load(KeyOf(0)) == BlockStatus::kOk);
}

/** A server that was taken for dead gets its pins and its claim back with its next heartbeat. */
UCM_TEST(store_server_returns_from_the_dead) {
    MemoryRig rig(20);
    SyncBackend store(rig.options);
    SyncBackend other(rig.options);
    store.Open();
    UCM_CHECK(store.Dump(KeyOf(0)) == BlockStatus::kOk);
    store.backend().AddPin(KeyOf(0));
    UCM_CHECK(store.backend().Pin(KeyOf(0)) == BlockStatus::kOk);
    const std::string pin = store.backend().layout().PinFile(KeyOf(0));
    rig.files->AdvanceClock(5 * kMinute);
    // Processes of this host are asked for; so pretend that it is another one's.
    std::vector<std::string> removed;
    for (const auto& [path, inode] : rig.files->tree().files) {
        if (path.starts_with(store.backend().layout().server_folder())) removed.push_back(path);
    }
    for (const std::string& path : removed) UCM_CHECK(rig.files->Unlink(path) == 0);
    store.backend().Maintain();
    UCM_CHECK(rig.files->tree().files.contains(pin));
    UCM_CHECK(rig.files->tree().files.contains(store.backend().layout().reservation_file()));
}

UCM_TEST(store_collector_lease_is_respected) {
    MemoryRig rig(10);
    SyncBackend store(rig.options);
    store.Open();
    const ServerId elsewhere{.host = "0badcafe", .pid = 7, .nonce = "11111111"};
    auto lease = std::make_shared<MemoryFileSystem::Inode>();
    lease->content = elsewhere.Name();
    lease->write_time = int64_t{1} << 60;
    lease->links = 1;
    rig.files->tree().files[store.backend().layout().collector_file()] = lease;
    UCM_CHECK(!store.backend().space().Collect(0));
    rig.files->AdvanceClock(kMinute);
    UCM_CHECK(store.backend().space().Collect(0));
}

/** The bytes of all files under a real folder, as the quota counts them; links count once. */
int64_t BytesUnder(const std::string& folder) {
    const StoreLayout layout(folder, KeyOf(1'000'000), ServerId::Make());
    return ScanFolder(*FileSystem::Posix(), layout).used_bytes;
}

UCM_TEST(store_quota_holds_with_many_servers) {
    const TempFolder folder;
    constexpr int64_t kServers = 4;
    FileStoreOptions options = SmallOptions(folder.path());
    options.capacity_bytes = 40 * kFileBytes;
    std::atomic<bool> done{false};
    std::atomic<int64_t> stored{0};
    int64_t most = 0;
    std::vector<std::thread> servers;
    for (int64_t server = 0; server < kServers; ++server) {
        servers.emplace_back([&, server] {
            const auto store = OpenFiles(options);
            for (int64_t round = 0; round < Trials(40); ++round) {
                const auto first = static_cast<uint64_t>(server * 1'000'000 + round * 10);
                stored += CountOf(DumpAll(*store, KeysFrom(first, 8)), BlockStatus::kOk);
                LoadAll(*store, KeysFrom(first, 8));
            }
            store->Close(milliseconds(2000));
        });
    }
    std::thread observer([&] {
        while (!done.load()) {
            most = std::max(most, BytesUnder(folder.path()));
            std::this_thread::yield();
        }
    });
    for (std::thread& server : servers) server.join();
    done.store(true);
    observer.join();
    // Looking takes time, in which a removed file and one in its place may both be seen.
    UCM_CHECK_MESSAGE(most <= options.capacity_bytes + kServers * kFileBytes, std::to_string(most));
    UCM_CHECK_MESSAGE(stored.load() > Trials(40) * kServers * 8 / 2, std::to_string(stored.load()));
    UCM_CHECK(BytesUnder(folder.path()) <= options.capacity_bytes);
    std::printf("   at most %lld of %lld bytes\n", static_cast<long long>(most),
                static_cast<long long>(options.capacity_bytes));
}

}  // namespace
}  // namespace ucm::test
