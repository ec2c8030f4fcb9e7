// Single layers of blocks, out of memory, files, and memory in front of files.
#include <algorithm>
#include <cstring>
#include <thread>

#include "store/dram_store.h"
#include "store/pipeline_store.h"
#include "test/store_file_systems.h"
#include "test/store_fixture.h"

namespace ucm::test {
namespace {

using std::chrono::milliseconds;

/** A layer of a block that is asked for. */
struct Wanted {
    BlockKey key;
    int32_t layer;
};

std::shared_ptr<DramStore> OpenMemory(const BlockShape& shape = kSmallShape) {
    std::shared_ptr<DramStore> store;
    const Status status = DramStore::Open(
        {.shape = shape, .capacity_bytes = 32 * block_format::AlignUp(shape.bytes_per_block),
         .threads = 2},
        &store);
    UCM_CHECK_MESSAGE(status.ok(), status.message());
    return store;
}

/** Loads pieces and checks that each that is said to be loaded is what its block has there. */
std::vector<BlockStatus> LoadPieces(KvStore& store, const std::vector<Wanted>& wanted) {
    const auto bytes = static_cast<std::size_t>(store.shape().layer_bytes());
    // Between two pieces is room that nobody may write to.
    const std::size_t stride = bytes + 64;
    std::vector<uint8_t> memory(stride * wanted.size(), 0xcc);
    std::vector<PieceTarget> targets;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        targets.push_back({wanted[i].key, wanted[i].layer, memory.data() + i * stride});
    }
    const std::vector<BlockStatus> statuses = AwaitBlocks(
        [&](BlocksDone done) { store.LoadPieces(targets, std::move(done)); });
    UCM_CHECK(statuses.size() == wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const uint8_t* piece = targets[i].data;
        UCM_CHECK(std::all_of(piece + bytes, piece + stride, [](uint8_t x) { return x == 0xcc; }));
        if (statuses[i] != BlockStatus::kOk) continue;
        const std::vector<uint8_t> block = ContentOf(wanted[i].key, store.shape());
        const uint8_t* expected = block.data() + static_cast<std::size_t>(wanted[i].layer) * bytes;
        UCM_CHECK(std::memcmp(piece, expected, bytes) == 0);
    }
    return statuses;
}

/** Layers in no order, of some blocks more than one, of one the same twice. */
std::vector<Wanted> SomePieces(int32_t layers) {
    std::vector<Wanted> wanted;
    for (uint64_t block = 0; block < 6; ++block) {
        wanted.push_back({KeyOf(block), layers - 1});
        wanted.push_back({KeyOf(block), 0});
        if (block % 2 == 0) wanted.push_back({KeyOf(block), static_cast<int32_t>(block) % layers});
    }
    wanted.push_back({KeyOf(0), layers / 2});
    return wanted;
}

void ExercisePieces(KvStore& store) {
    UCM_CHECK(LoadPieces(store, {}).empty());
    UCM_CHECK(AllAre(LoadPieces(store, SomePieces(3)), BlockStatus::kMissing));
    UCM_CHECK(AllAre(DumpAll(store, KeysFrom(0, 6)), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadPieces(store, SomePieces(3)), BlockStatus::kOk));
    const std::vector<BlockStatus> mixed =
        LoadPieces(store, {{KeyOf(1), 2}, {KeyOf(99), 0}, {KeyOf(99), 1}, {KeyOf(2), 1}});
    UCM_CHECK(mixed[0] == BlockStatus::kOk && mixed[1] == BlockStatus::kMissing &&
              mixed[2] == BlockStatus::kMissing && mixed[3] == BlockStatus::kOk);
    UCM_CHECK(AllAre(ForgetAll(store, {KeyOf(4)}), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadPieces(store, {{KeyOf(4), 0}, {KeyOf(4), 1}}), BlockStatus::kMissing));
    store.Close(milliseconds(1000));
    UCM_CHECK(CountOf(LoadPieces(store, {{KeyOf(1), 0}}), BlockStatus::kOk) == 0);
}

UCM_TEST(store_pieces_from_memory) {
    const auto store = OpenMemory();
    ExercisePieces(*store);
    UCM_CHECK(StatOf(*store, "loadedPieces") ==
              static_cast<int64_t>(SomePieces(3).size()) + 2);
    UCM_CHECK(StatOf(*store, "loadedBlocks") == 0);
}

UCM_TEST(store_pieces_from_files) {
    for (const bool direct : {false, true}) {
        const TempFolder folder;
        FileStoreOptions options = SmallOptions(folder.path());
        options.file.direct = direct;
        const auto store = OpenFiles(options);
        ExercisePieces(*store);
        UCM_CHECK(StatOf(*store, "loadedPieces") ==
                  static_cast<int64_t>(SomePieces(3).size()) + 2);
    }
}

/** Layers of all sizes beside units of direct I/O and beside the pieces that files are read in. */
UCM_TEST(store_pieces_of_all_sizes) {
    for (const int32_t layers : {1, 2, 80, 1500}) {
        for (const int64_t bytes : {int64_t{1}, int64_t{512}, int64_t{4096}, int64_t{70'001}}) {
            if (layers * bytes > (2 << 20)) continue;
            for (const bool direct : {false, true}) {
                const TempFolder folder;
                FileStoreOptions options = SmallOptions(folder.path());
                options.shape = {.bytes_per_block = layers * bytes, .num_layers = layers,
                                 .block_size = 16};
                options.write_buffer_bytes = 64 << 20;
                options.file.direct = direct;
                const auto store = OpenFiles(options);
                UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 6)), BlockStatus::kOk));
                UCM_CHECK(AllAre(LoadPieces(*store, SomePieces(layers)), BlockStatus::kOk));
            }
        }
    }
}

UCM_TEST(store_pieces_from_both_tiers) {
    const TempFolder folder;
    {
        const auto files = OpenFiles(SmallOptions(folder.path()));
        UCM_CHECK(AllAre(DumpAll(*files, KeysFrom(0, 3)), BlockStatus::kOk));
        files->Close(milliseconds(1000));
    }
    PipelineStore store(OpenMemory(), OpenFiles(SmallOptions(folder.path())), 16);
    UCM_CHECK(AllAre(DumpAll(store, KeysFrom(3, 3)), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadPieces(store, SomePieces(3)), BlockStatus::kOk));
    UCM_CHECK(StatOf(store, "loadedPieces", "memory") == 7);
    UCM_CHECK(StatOf(store, "loadedPieces", "files") == 9);
    UCM_CHECK(LoadPieces(store, {{KeyOf(77), 1}})[0] == BlockStatus::kMissing);
}

UCM_TEST(store_pieces_of_damaged_memory) {
    const auto store = OpenMemory();
    UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 2)), BlockStatus::kOk));
    const_cast<uint8_t*>(store->Find(KeyOf(1))->data())[4099 + 17] ^= 4;
    const std::vector<BlockStatus> statuses = LoadPieces(
        *store, {{KeyOf(0), 1}, {KeyOf(1), 0}, {KeyOf(1), 1}, {KeyOf(1), 2}});
    UCM_CHECK(statuses[0] == BlockStatus::kOk && statuses[1] == BlockStatus::kOk &&
              statuses[2] == BlockStatus::kCorrupt && statuses[3] == BlockStatus::kOk);
    UCM_CHECK(LoadPieces(*store, {{KeyOf(1), 0}})[0] == BlockStatus::kMissing);
    UCM_CHECK(StatOf(*store, "corruptBlocks") == 1);
}

/** Every region of a file that is damaged, or missing at its end, is found by who reads it. */
UCM_TEST(store_pieces_of_damaged_files) {
    const int64_t header = block_format::HeaderBytes(kSmallShape);
    const int64_t end = block_format::FileBytes(kSmallShape);
    Random random(7);
    for (int64_t trial = 0; trial < Trials(120); ++trial) {
        const TempFolder folder;
        const auto store = OpenFiles(SmallOptions(folder.path()));
        UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 1)), BlockStatus::kOk));
        const std::string path = FilesUnder(folder.path() + "/ucm-v1/blocks").front();
        std::string content = ReadFile(path);
        const bool cut = random.Integer(0, 9) == 0;
        const int64_t at = random.Integer(0, end - 1);
        if (cut) {
            content.resize(static_cast<std::size_t>(at));
        } else {
            content[static_cast<std::size_t>(at)] ^= static_cast<char>(1 << random.Integer(0, 7));
        }
        WriteFile(path, content);
        const int32_t damaged =
            cut || at < header ? 0 : static_cast<int32_t>((at - header) / 4099);
        const std::vector<BlockStatus> statuses =
            LoadPieces(*store, {{KeyOf(0), 0}, {KeyOf(0), 1}, {KeyOf(0), 2}});
        for (int32_t layer = 0; layer < 3; ++layer) {
            const BlockStatus expected =
                layer < damaged ? BlockStatus::kOk : BlockStatus::kCorrupt;
            UCM_CHECK(statuses[static_cast<std::size_t>(layer)] == expected);
        }
        UCM_CHECK(StatOf(*store, "quarantinedBlocks") == 1);
        UCM_CHECK(LoadPieces(*store, {{KeyOf(0), 0}})[0] == BlockStatus::kMissing);
    }
}

UCM_TEST(store_pieces_every_errno_at_every_call) {
    for (const int error : {EIO, ESTALE, EINTR, EINVAL, EACCES}) {
        for (const bool direct : {false, true}) {
            for (int64_t at = 0; at < 12; ++at) {
                const TempFolder folder;
                const auto hooked = std::make_shared<HookedFileSystem>(FileSystem::Posix());
                FileStoreOptions options = SmallOptions(folder.path());
                options.files = hooked;
                options.file.direct = direct;
                std::shared_ptr<FileStore> store = OpenFiles(options);
                UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 1)), BlockStatus::kOk));
                store->Close(milliseconds(1000));
                std::atomic<int64_t> calls{-1};
                hooked->SetHook([&](Call call, const std::string&, std::size_t) -> int64_t {
                    const bool counted = call == Call::kOpen || call == Call::kRead ||
                                         call == Call::kFileStatus || call == Call::kUseCache;
                    if (!counted || calls.load() < 0) return 0;
                    return calls.fetch_add(1) == at ? -error : 0;
                });
                store = OpenFiles(options);
                calls.store(0);
                // Whatever fails: what is reported as loaded is right, which LoadPieces checks.
                LoadPieces(*store, {{KeyOf(0), 2}, {KeyOf(0), 0}});
                calls.store(-1);
                store->Close(milliseconds(1000));
            }
        }
    }
}

UCM_TEST(store_pieces_of_a_hung_mount) {
    const TempFolder folder;
    Gate gate;
    const auto hooked = std::make_shared<HookedFileSystem>(FileSystem::Posix());
    hooked->SetHook([&](Call call, const std::string&, std::size_t) -> int64_t {
        if (call == Call::kRead) gate.Pass();
        return 0;
    });
    FileStoreOptions options = SmallOptions(folder.path());
    options.files = hooked;
    options.stall_timeout = milliseconds(100);
    const auto store = OpenFiles(options);
    UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 2)), BlockStatus::kOk));
    gate.Shut();
    const std::vector<BlockStatus> statuses =
        LoadPieces(*store, {{KeyOf(0), 1}, {KeyOf(0), 2}, {KeyOf(1), 0}});
    UCM_CHECK(AllAre(statuses, BlockStatus::kTimeout));
    // What the mount brings later goes nowhere: the memory is gone already.
    gate.Open();
    Eventually([&] { return StatOf(*store, "stuckThreads") == 0; });
    // On a busy machine the mount may count as hung once more before it has answered.
    Eventually([&] { return AllAre(LoadPieces(*store, {{KeyOf(0), 1}}), BlockStatus::kOk); });
    store->Close(milliseconds(1000));
}

}  // namespace
}  // namespace ucm::test
