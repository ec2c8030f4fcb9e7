// What every store does, in memory, in files, and in memory in front of files.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>

#include "store/dram_store.h"
#include "store/pipeline_store.h"
#include "test/store_fixture.h"

namespace ucm::test {
namespace {

using std::chrono::milliseconds;

std::shared_ptr<DramStore> OpenMemory(int64_t blocks, BlockShape shape = kSmallShape) {
    std::shared_ptr<DramStore> store;
    const Status status = DramStore::Open(
        {.shape = shape, .capacity_bytes = blocks * block_format::AlignUp(shape.bytes_per_block),
         .threads = 2},
        &store);
    UCM_CHECK_MESSAGE(status.ok(), status.message());
    return store;
}

std::shared_ptr<PipelineStore> OpenPipeline(const FileStoreOptions& options, int64_t blocks,
                                            std::size_t queue = 1024) {
    return std::make_shared<PipelineStore>(OpenMemory(blocks), OpenFiles(options), queue);
}

bool AllPresent(const std::vector<Presence>& found, Presence presence) {
    return std::count(found.begin(), found.end(), presence) ==
           static_cast<int64_t>(found.size());
}

void ExerciseStore(KvStore& store, Presence where) {
    const std::vector<BlockKey> keys = KeysFrom(0, 20);
    UCM_CHECK(AllPresent(LookupAll(store, keys), Presence::kMissing));
    UCM_CHECK(AllAre(LoadAll(store, keys), BlockStatus::kMissing));
    UCM_CHECK(AllAre(DumpAll(store, keys), BlockStatus::kOk));
    UCM_CHECK(AllPresent(LookupAll(store, keys), where));
    UCM_CHECK(AllAre(LoadAll(store, keys), BlockStatus::kOk));
    UCM_CHECK(AllAre(DumpAll(store, keys), BlockStatus::kOk));
    const std::vector<BlockKey> mixed = {keys[3], KeyOf(77), keys[4]};
    const std::vector<BlockStatus> loaded = LoadAll(store, mixed);
    UCM_CHECK(loaded[0] == BlockStatus::kOk && loaded[1] == BlockStatus::kMissing &&
              loaded[2] == BlockStatus::kOk);
    UCM_CHECK(LoadAll(store, {}).empty() && DumpAll(store, {}).empty());
    UCM_CHECK(AllAre(PinAll(store, keys), BlockStatus::kOk));
    UCM_CHECK(AllAre(PinAll(store, KeysFrom(500, 2)), BlockStatus::kMissing));
    store.Unpin(keys);
    UCM_CHECK(AllAre(ForgetAll(store, {keys[0], keys[1]}), BlockStatus::kOk));
    UCM_CHECK(AllAre(ForgetAll(store, {keys[0]}), BlockStatus::kMissing));
    const std::vector<BlockStatus> rest = LoadAll(store, keys);
    UCM_CHECK(CountOf(rest, BlockStatus::kMissing) == 2 && CountOf(rest, BlockStatus::kOk) == 18);
    UCM_CHECK(StatOf(store, "corruptBlocks") == 0);
    store.Close(milliseconds(1000));
    store.Close(milliseconds(1000));
    UCM_CHECK(CountOf(LoadAll(store, {keys[5]}), BlockStatus::kOk) == 0);
    UCM_CHECK(CountOf(DumpAll(store, KeysFrom(900, 1)), BlockStatus::kOk) == 0);
}

UCM_TEST(store_dram_operations) { ExerciseStore(*OpenMemory(64), Presence::kMemory); }

UCM_TEST(store_file_operations) {
    for (const bool direct : {false, true}) {
        for (const SyncPolicy sync : {SyncPolicy::kNone, SyncPolicy::kData}) {
            const TempFolder folder;
            FileStoreOptions options = SmallOptions(folder.path());
            options.file.direct = direct;
            options.file.sync = sync;
            ExerciseStore(*OpenFiles(options), Presence::kFile);
            // The next server finds what this one left, and nothing of the server itself is left.
            const auto again = OpenFiles(options);
            UCM_CHECK(AllAre(LoadAll(*again, KeysFrom(2, 18)), BlockStatus::kOk));
            again->Close(milliseconds(1000));
            const std::vector<std::string> left = FilesUnder(folder.path());
            std::size_t blocks = 0;
            for (const std::string& path : left) {
                UCM_CHECK_MESSAGE(path.ends_with(".kv") || path.ends_with("/collected"), path);
                blocks += path.ends_with(".kv");
            }
            UCM_CHECK(blocks == 18);
        }
    }
}

UCM_TEST(store_pipeline_operations) {
    const TempFolder folder;
    ExerciseStore(*OpenPipeline(SmallOptions(folder.path()), 64), Presence::kMemory);
    const auto files = OpenFiles(SmallOptions(folder.path()));
    UCM_CHECK(AllAre(LoadAll(*files, KeysFrom(2, 18)), BlockStatus::kOk));
}

UCM_TEST(store_shapes_of_all_sizes) {
    for (const int32_t layers : {1, 2, 28, 80, 1500}) {
        for (const int64_t layer_bytes : {int64_t{1}, int64_t{512}, int64_t{4096}, int64_t{70'001}}) {
            if (layers * layer_bytes > (2 << 20)) continue;
            const TempFolder folder;
            FileStoreOptions options = SmallOptions(folder.path());
            options.shape = {.bytes_per_block = layers * layer_bytes, .num_layers = layers,
                             .block_size = 128};
            options.write_buffer_bytes = 64 << 20;
            for (const bool direct : {false, true}) {
                options.file.direct = direct;
                const auto files = OpenFiles(options);
                const std::vector<BlockKey> keys = KeysFrom(direct ? 0 : 10, 3);
                UCM_CHECK(AllAre(DumpAll(*files, keys), BlockStatus::kOk));
                UCM_CHECK(AllAre(LoadAll(*files, keys), BlockStatus::kOk));
            }
            const auto memory = OpenMemory(4, options.shape);
            UCM_CHECK(AllAre(DumpAll(*memory, KeysFrom(0, 3)), BlockStatus::kOk));
            UCM_CHECK(AllAre(LoadAll(*memory, KeysFrom(0, 3)), BlockStatus::kOk));
        }
    }
}

UCM_TEST(store_dram_evicts_the_least_recently_used) {
    const auto store = OpenMemory(4);
    const std::vector<BlockKey> keys = KeysFrom(0, 6);
    UCM_CHECK(AllAre(DumpAll(*store, {keys[0], keys[1], keys[2], keys[3]}), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadAll(*store, {keys[0]}), BlockStatus::kOk));
    UCM_CHECK(AllAre(DumpAll(*store, {keys[4]}), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadAll(*store, {keys[0], keys[2], keys[3], keys[4]}), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadAll(*store, {keys[1]}), BlockStatus::kMissing));
    UCM_CHECK(AllAre(PinAll(*store, {keys[0], keys[2], keys[3], keys[4]}), BlockStatus::kOk));
    UCM_CHECK(AllAre(DumpAll(*store, {keys[5]}), BlockStatus::kRefused));
    UCM_CHECK(StatOf(*store, "dumpsRefused") == 1 && StatOf(*store, "pinnedBlocks") == 4);
    // Two pins need two unpins.
    UCM_CHECK(AllAre(PinAll(*store, {keys[3]}), BlockStatus::kOk));
    store->Unpin({keys[3]});
    UCM_CHECK(AllAre(DumpAll(*store, {keys[5]}), BlockStatus::kRefused));
    store->Unpin({keys[3]});
    UCM_CHECK(AllAre(DumpAll(*store, {keys[5]}), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadAll(*store, {keys[3]}), BlockStatus::kMissing));
    UCM_CHECK(StatOf(*store, "evictedBlocks") == 2 && StatOf(*store, "blocks") == 4);
}

UCM_TEST(store_dram_leaves_blocks_in_use) {
    const auto store = OpenMemory(2);
    UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 2)), BlockStatus::kOk));
    const std::shared_ptr<BlockBuffer> used = store->Find(KeyOf(0));
    store->Find(KeyOf(1));
    // Block 0 is the least recently used one, but somebody reads it.
    UCM_CHECK(AllAre(DumpAll(*store, {KeyOf(2)}), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadAll(*store, {KeyOf(0), KeyOf(2)}), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadAll(*store, {KeyOf(1)}), BlockStatus::kMissing));
}

UCM_TEST(store_dram_finds_damaged_memory) {
    const auto store = OpenMemory(4);
    UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 2)), BlockStatus::kOk));
    const_cast<uint8_t*>(store->Find(KeyOf(1))->data())[5000] ^= 4;
    const std::vector<BlockStatus> statuses = LoadAll(*store, KeysFrom(0, 2));
    UCM_CHECK(statuses[0] == BlockStatus::kOk && statuses[1] == BlockStatus::kCorrupt);
    UCM_CHECK(AllAre(LoadAll(*store, {KeyOf(1)}), BlockStatus::kMissing));
    UCM_CHECK(StatOf(*store, "corruptBlocks") == 1);
}

UCM_TEST(store_several_backends_share_the_keys) {
    const TempFolder folder;
    FileStoreOptions options = SmallOptions(folder.path());
    options.backends.clear();
    for (const char* name : {"/a", "/b", "/c"}) {
        options.backends.push_back(folder.path() + name);
        std::filesystem::create_directory(options.backends.back());
    }
    const std::vector<BlockKey> keys = KeysFrom(0, 120);
    {
        const auto store = OpenFiles(options);
        UCM_CHECK(AllAre(DumpAll(*store, {keys.begin(), keys.begin() + 60}), BlockStatus::kOk));
        UCM_CHECK(AllAre(DumpAll(*store, {keys.begin() + 60, keys.end()}), BlockStatus::kOk));
        UCM_CHECK(AllAre(LoadAll(*store, keys), BlockStatus::kOk));
        store->Close(milliseconds(1000));
    }
    for (const std::string& backend : options.backends) {
        const std::size_t files = FilesUnder(backend + "/ucm-v1/blocks").size();
        UCM_CHECK(files > 20 && files < 60);
    }
    // What a lost folder held is missing, and nothing else.
    const auto lost = static_cast<int64_t>(FilesUnder(options.backends[1] + "/ucm-v1/blocks").size());
    std::filesystem::remove_all(options.backends[1]);
    std::filesystem::create_directory(options.backends[1]);
    const auto store = OpenFiles(options);
    const std::vector<BlockStatus> statuses = LoadAll(*store, keys);
    UCM_CHECK(CountOf(statuses, BlockStatus::kMissing) == lost);
    UCM_CHECK(CountOf(statuses, BlockStatus::kOk) == 120 - lost);
}

UCM_TEST(store_namespaces_do_not_mix) {
    const TempFolder folder;
    FileStoreOptions options = SmallOptions(folder.path());
    const auto first = OpenFiles(options);
    UCM_CHECK(AllAre(DumpAll(*first, KeysFrom(0, 5)), BlockStatus::kOk));
    options.name_space = KeyOf(2'000'000);
    const auto second = OpenFiles(options);
    UCM_CHECK(AllAre(LoadAll(*second, KeysFrom(0, 5)), BlockStatus::kMissing));
    UCM_CHECK(AllPresent(LookupAll(*second, KeysFrom(0, 5)), Presence::kMissing));
}

UCM_TEST(store_servers_see_each_others_blocks) {
    const TempFolder folder;
    const auto first = OpenFiles(SmallOptions(folder.path()));
    const auto second = OpenFiles(SmallOptions(folder.path()));
    UCM_CHECK(AllAre(DumpAll(*first, KeysFrom(0, 5)), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadAll(*second, KeysFrom(0, 5)), BlockStatus::kOk));
    // A block that vanishes under a server that remembers it is a miss.
    UCM_CHECK(AllAre(ForgetAll(*second, {KeyOf(3)}), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadAll(*first, {KeyOf(3)}), BlockStatus::kMissing));
    UCM_CHECK(AllPresent(LookupAll(*first, {KeyOf(3)}), Presence::kMissing));
}

UCM_TEST(store_read_only_changes_nothing) {
    const TempFolder folder;
    FileStoreOptions options = SmallOptions(folder.path());
    {
        const auto writer = OpenFiles(options);
        UCM_CHECK(AllAre(DumpAll(*writer, KeysFrom(0, 3)), BlockStatus::kOk));
        writer->Close(milliseconds(1000));
    }
    const std::vector<std::string> before = FilesUnder(folder.path());
    WriteFile(before[0], "damaged");
    options.read_only = true;
    const auto reader = OpenFiles(options);
    const std::vector<BlockStatus> statuses = LoadAll(*reader, KeysFrom(0, 3));
    UCM_CHECK(CountOf(statuses, BlockStatus::kOk) == 2);
    UCM_CHECK(CountOf(statuses, BlockStatus::kCorrupt) == 1);
    UCM_CHECK(AllAre(DumpAll(*reader, {KeyOf(9)}), BlockStatus::kRefused));
    UCM_CHECK(AllAre(ForgetAll(*reader, {KeyOf(0)}), BlockStatus::kRefused));
    UCM_CHECK(CountOf(PinAll(*reader, KeysFrom(0, 3)), BlockStatus::kOk) >= 2);
    reader->CollectNow();
    reader->Close(milliseconds(1000));
    UCM_CHECK(FilesUnder(folder.path()) == before);
}

UCM_TEST(store_open_says_what_is_wrong) {
    const TempFolder folder;
    const auto message_of = [](const FileStoreOptions& options) {
        std::shared_ptr<FileStore> store;
        const Status status = FileStore::Open(options, &store);
        UCM_CHECK(!status.ok() && store == nullptr);
        return status.message();
    };
    FileStoreOptions options = SmallOptions(folder.path() + "/none");
    UCM_CHECK(message_of(options).find("there is no folder") != std::string::npos);
    WriteFile(folder.path() + "/file", "x");
    options.backends = {folder.path() + "/file"};
    UCM_CHECK(message_of(options).find("Not a directory") != std::string::npos);
    options.backends = {"/proc"};
    UCM_CHECK(message_of(options).find("cannot use '/proc/ucm-v1'") != std::string::npos);
    options.backends = {};
    UCM_CHECK(message_of(options).find("names no folder") != std::string::npos);
    options = SmallOptions(folder.path());
    options.capacity_bytes = 100;
    UCM_CHECK(message_of(options).find("one block takes 20480") != std::string::npos);
}

/** Compute may start on the first layers while the last ones are still on their way. */
UCM_TEST(store_loads_layer_by_layer) {
    const TempFolder folder;
    FileStoreOptions options = SmallOptions(folder.path());
    options.threads = 2;
    const auto store = OpenFiles(options);
    const std::vector<BlockKey> keys = KeysFrom(0, 30);
    UCM_CHECK(AllAre(DumpAll(*store, keys), BlockStatus::kOk));
    std::vector<uint8_t> memory(30 * static_cast<std::size_t>(kSmallShape.bytes_per_block));
    std::vector<LoadTarget> targets;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        targets.push_back({keys[i], memory.data() + i * 3 * 4099});
    }
    std::vector<int32_t> reported;
    std::atomic<bool> first_layer_is_right{false};
    std::atomic<bool> done{false};
    store->Load(std::make_shared<LoadBatch>(
        targets, 3,
        [&](int32_t layers) {
            if (layers == 1) {
                first_layer_is_right.store(std::all_of(targets.begin(), targets.end(), [](auto& t) {
                    return std::memcmp(t.data, ContentOf(t.key, kSmallShape).data(), 4099) == 0;
                }));
            }
            reported.push_back(layers);
        },
        [&](const std::vector<BlockStatus>& statuses) {
            UCM_CHECK(AllAre(statuses, BlockStatus::kOk));
            done.store(true);
        }));
    Eventually([&] { return done.load(); });
    UCM_CHECK(reported.size() >= 2 && reported.front() == 1 && reported.back() == 3);
    UCM_CHECK(first_layer_is_right.load());
}

UCM_TEST(store_circuit_breaker) {
    CircuitBreaker breaker({.failures = 3, .first_pause = milliseconds(100),
                            .longest_pause = milliseconds(300)});
    const Clock::time_point start = Clock::now();
    const auto admits = [&](int ms) { return breaker.Admit(start + milliseconds(ms)); };
    breaker.Fail(start);
    breaker.Fail(start);
    breaker.Succeed();
    breaker.Fail(start);
    breaker.Fail(start);
    UCM_CHECK(breaker.closed() && admits(0));
    breaker.Fail(start);
    UCM_CHECK(!breaker.closed() && !admits(0) && !admits(99));
    // One at a time, and ever more rarely: after 100, 200, 300 and 300 ms.
    UCM_CHECK(admits(100) && !admits(101) && !admits(299) && admits(300) && !admits(599));
    UCM_CHECK(admits(600) && !admits(899) && admits(900));
    breaker.Succeed();
    UCM_CHECK(breaker.closed() && admits(901) && admits(901) && breaker.openings() == 1);
}

UCM_TEST(store_hints_run_out) {
    HintCache hints;
    const Clock::time_point now = Clock::now();
    hints.PutPresent(KeyOf(1));
    hints.PutAbsent(KeyOf(2));
    UCM_CHECK(hints.Find(KeyOf(1)) == Hint::kPresent && hints.Find(KeyOf(2)) == Hint::kAbsent);
    UCM_CHECK(hints.Find(KeyOf(3)) == Hint::kNone);
    UCM_CHECK(hints.Find(KeyOf(2), now + std::chrono::seconds(4)) == Hint::kNone);
    UCM_CHECK(hints.Find(KeyOf(1), now + std::chrono::seconds(4)) == Hint::kPresent);
    UCM_CHECK(hints.Find(KeyOf(1), now + std::chrono::minutes(1)) == Hint::kNone);
}

UCM_TEST(store_pipeline_keeps_what_it_loads) {
    const TempFolder folder;
    {
        const auto first = OpenPipeline(SmallOptions(folder.path()), 64);
        UCM_CHECK(AllAre(DumpAll(*first, KeysFrom(0, 8)), BlockStatus::kOk));
        first->Close(milliseconds(5000));
    }
    const auto store = OpenPipeline(SmallOptions(folder.path()), 64);
    UCM_CHECK(AllPresent(LookupAll(*store, KeysFrom(0, 8)), Presence::kFile));
    UCM_CHECK(AllAre(LoadAll(*store, KeysFrom(0, 8)), BlockStatus::kOk));
    UCM_CHECK(AllPresent(store->LookupMemory(KeysFrom(0, 8)), Presence::kMemory));
    UCM_CHECK(AllAre(LoadAll(*store, KeysFrom(0, 8)), BlockStatus::kOk));
    UCM_CHECK(StatOf(*store, "loadedBlocks", "files") == 8);
    UCM_CHECK(StatOf(*store, "loadedBlocks", "memory") == 8);
}

UCM_TEST(store_pipeline_writes_more_than_memory_holds) {
    const TempFolder folder;
    const std::vector<BlockKey> keys = KeysFrom(0, 100);
    {
        const auto store = OpenPipeline(SmallOptions(folder.path()), 10);
        int64_t stored = 0;
        for (const BlockKey& key : keys) {
            stored += CountOf(DumpAll(*store, {key}), BlockStatus::kOk);
            if (stored % 5 == 0) {
                Eventually([&] { return StatOf(*store, "queuedWrites", "files") == 0; });
            }
        }
        UCM_CHECK(stored == 100);
        store->Close(milliseconds(10000));
        UCM_CHECK(StatOf(*store, "dumpsDropped", "files") == 0);
    }
    UCM_CHECK(AllAre(LoadAll(*OpenFiles(SmallOptions(folder.path())), keys), BlockStatus::kOk));
}

UCM_TEST(store_pipeline_pins_hold_in_both_tiers) {
    const TempFolder folder;
    FileStoreOptions options = SmallOptions(folder.path());
    options.capacity_bytes = 10 * 16384;
    const auto store = OpenPipeline(options, 3);
    const std::vector<BlockKey> keys = KeysFrom(0, 3);
    UCM_CHECK(AllAre(DumpAll(*store, {keys[0]}), BlockStatus::kOk));
    UCM_CHECK(AllAre(PinAll(*store, {keys[0]}), BlockStatus::kOk));
    UCM_CHECK(AllAre(PinAll(*store, {keys[0]}), BlockStatus::kOk));
    UCM_CHECK(StatOf(*store, "pinnedBlocks", "memory") == 1);
    store->Unpin({keys[0]});
    UCM_CHECK(StatOf(*store, "pinnedBlocks", "memory") == 1);
    for (int i = 0; i < 5; ++i) DumpAll(*store, KeysFrom(static_cast<uint64_t>(100 + i), 1));
    UCM_CHECK(AllPresent(store->LookupMemory({{keys[0]}}), Presence::kMemory));
    store->Unpin({keys[0]});
    Eventually([&] { return StatOf(*store, "pinnedBlocks", "files") == 0; });
    UCM_CHECK(StatOf(*store, "pinnedBlocks", "memory") == 0);
}

}  // namespace
}  // namespace ucm::test
