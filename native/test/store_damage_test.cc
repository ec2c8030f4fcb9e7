// Files that are not what was written: every one is found, moved away and counted.
#include <cstring>
#include <filesystem>

#include "store/block_format.h"
#include "store/crc32c.h"
#include "test/store_backend.h"
#include "test/store_file_systems.h"

namespace ucm::test {
namespace {

constexpr std::size_t kSector = 512;

FileStoreOptions OptionsOn(const std::shared_ptr<FileSystem>& files) {
    FileStoreOptions options = SmallOptions("/m");
    options.files = files;
    return options;
}

std::size_t Below(Random& random, std::size_t limit) {
    return static_cast<std::size_t>(random.Integer(0, static_cast<int64_t>(limit) - 1));
}

/** The ways to damage a file; each returns what the file is then. */
using Mutation = std::string (*)(const std::string& file, Random& random);

std::string FlipBit(const std::string& file, Random& random) {
    std::string damaged = file;
    damaged[Below(random, file.size())] ^= static_cast<char>(1 << random.Integer(0, 7));
    return damaged;
}
std::string FlipHeaderBit(const std::string& file, Random& random) {
    std::string damaged = file;
    damaged[Below(random, 128)] ^= static_cast<char>(1 << random.Integer(0, 7));
    return damaged;
}
std::string FlipTwoBits(const std::string& file, Random& random) {
    const std::string damaged = FlipBit(FlipBit(file, random), random);
    return damaged == file ? FlipBit(file, random) : damaged;
}
std::string Burst(const std::string& file, Random& random) {
    std::string damaged = file;
    const std::size_t from = Below(random, file.size() - 64);
    for (int64_t i = random.Integer(1, 64); i > 0; --i) {
        damaged[from + static_cast<std::size_t>(i - 1)] = static_cast<char>(random.Integer(0, 255));
    }
    return damaged;
}
/** Sector `to` becomes sector `from` of the same file: a misdirected write. */
std::string MoveSector(const std::string& file, Random& random) {
    std::string damaged = file;
    const std::size_t sectors = file.size() / kSector;
    const std::size_t from = Below(random, sectors) * kSector;
    const std::size_t to = Below(random, sectors) * kSector;
    damaged.replace(to, kSector, file, from, kSector);
    return damaged;
}
std::string ZeroSector(const std::string& file, Random& random) {
    std::string damaged = file;
    const std::size_t unit = random.Integer(0, 1) == 0 ? kSector : 8 * kSector;
    const std::size_t from = Below(random, file.size() / unit) * unit;
    std::fill_n(damaged.begin() + static_cast<std::ptrdiff_t>(from), unit, '\0');
    return damaged;
}
std::string ZeroTail(const std::string& file, Random& random) {
    const std::size_t kept = Below(random, file.size());
    return file.substr(0, kept) + std::string(file.size() - kept, '\0');
}
std::string Truncate(const std::string& file, Random& random) {
    return file.substr(0, Below(random, file.size()));
}
std::string Extend(const std::string& file, Random& random) {
    return file + std::string(1 + Below(random, 5000), static_cast<char>(random.Integer(0, 1)));
}
std::string Fill(const std::string& file, Random& random) {
    return std::string(file.size(), static_cast<char>(random.Integer(0, 255)));
}
/** The byte order of a word of the header, or a version to come: with a header sum that fits. */
std::string ForgeHeader(const std::string& file, Random& random) {
    std::string damaged = file;
    const std::size_t fields[] = {0, 8, 80, 88, 92, 16, 48, 4000};
    damaged[fields[Below(random, std::size(fields))]] ^=
        static_cast<char>(random.Integer(1, 255));
    std::memset(damaged.data() + 12, 0, 4);
    const uint32_t crc = Crc32c(damaged.data(), block_format::kAlignment);
    std::memcpy(damaged.data() + 12, &crc, 4);
    return damaged;
}

constexpr Mutation kMutations[] = {FlipBit,   FlipHeaderBit, FlipTwoBits, Burst,
                                   MoveSector, ZeroSector,    ZeroTail,    Truncate,
                                   Extend,     Fill,          ForgeHeader};

UCM_TEST(store_damage_is_always_found) {
    const auto files = std::make_shared<MemoryFileSystem>();
    files->MakeDirectory("/m");
    SyncBackend store(OptionsOn(files));
    store.Open();
    Random random(5);
    const std::vector<BlockKey> keys = KeysFrom(0, 4);
    std::vector<std::string> originals;
    for (const BlockKey& key : keys) {
        UCM_CHECK(store.Dump(key) == BlockStatus::kOk);
        originals.push_back(files->tree().files.at(store.backend().layout().BlockFile(key))->content);
    }
    int64_t damaged = 0;
    for (int64_t trial = 0; trial < Trials(100'000); ++trial) {
        const std::size_t which = Below(random, keys.size());
        const std::string path = store.backend().layout().BlockFile(keys[which]);
        const Mutation mutation = kMutations[static_cast<std::size_t>(trial) % std::size(kMutations)];
        const std::string content = mutation(originals[which], random);
        const bool differs = content != originals[which];
        auto& file = files->tree().files[path];
        if (file == nullptr) {
            file = std::make_shared<MemoryFileSystem::Inode>();
            file->number = static_cast<uint64_t>(1'000 + trial);
            file->links = 1;
        }
        file->content = content;
        const BlockStatus status = store.Load(keys[which]);
        UCM_CHECK(status == (differs ? BlockStatus::kCorrupt : BlockStatus::kOk));
        damaged += differs;
        // It was moved away, so that nobody loads it again.
        UCM_CHECK(!differs || !files->tree().files.contains(path));
        std::erase_if(files->tree().files, [](const auto& entry) {
            return entry.first.find("/quarantine/") != std::string::npos;
        });
    }
    Counters& counters = store.backend().counters();
    UCM_CHECK(counters.Get(Counter::kCorruptBlocks) == damaged);
    UCM_CHECK(counters.Get(Counter::kQuarantinedBlocks) == damaged);
    UCM_CHECK(damaged > Trials(100'000) * 9 / 10);
}

/** The sums of version 1, taken from the file's bytes alone. */
UCM_TEST(store_files_have_the_sums_of_the_format) {
    const auto files = std::make_shared<MemoryFileSystem>();
    files->MakeDirectory("/m");
    SyncBackend store(OptionsOn(files));
    store.Open();
    UCM_CHECK(store.Dump(KeyOf(0)) == BlockStatus::kOk);
    const std::string file =
        files->tree().files.at(store.backend().layout().BlockFile(KeyOf(0)))->content;
    UCM_CHECK(file.size() == 4096 + 3 * 4099);
    const auto word_at = [&](std::size_t offset) {
        uint32_t word;
        std::memcpy(&word, file.data() + offset, sizeof(word));
        return word;
    };
    std::string header = file.substr(0, 4096);
    header.replace(12, 4, 4, '\0');
    UCM_CHECK(word_at(12) == Crc32c(header.data(), header.size()));
    for (std::size_t layer = 0; layer < 3; ++layer) {
        UCM_CHECK(word_at(96 + 4 * layer) == Crc32c(file.data() + 4096 + 4099 * layer, 4099));
    }
}

/** What was read before from elsewhere must not pass for the missing end. */
UCM_TEST(store_files_cut_while_they_are_read) {
    const auto files = std::make_shared<MemoryFileSystem>();
    files->MakeDirectory("/m");
    const auto hooked = std::make_shared<HookedFileSystem>(files);
    SyncBackend store(OptionsOn(hooked));
    store.Open();
    for (const std::size_t size : {std::size_t{0}, std::size_t{100}, std::size_t{9000}}) {
        UCM_CHECK(store.Dump(KeyOf(0)) == BlockStatus::kOk);
        UCM_CHECK(store.Load(KeyOf(0)) == BlockStatus::kOk);
        const std::string path = store.backend().layout().BlockFile(KeyOf(0));
        hooked->SetHook([&](Call call, const std::string&, std::size_t) -> int64_t {
            if (call == Call::kRead) files->tree().files.at(path)->content.resize(size);
            return 0;
        });
        UCM_CHECK(store.Load(KeyOf(0)) == BlockStatus::kCorrupt);
        hooked->SetHook(nullptr);
    }
}

UCM_TEST(store_files_in_the_wrong_place_are_found) {
    const auto files = std::make_shared<MemoryFileSystem>();
    files->MakeDirectory("/m");
    FileStoreOptions options = OptionsOn(files);
    SyncBackend store(options);
    store.Open();
    options.name_space = KeyOf(3'000'000);
    SyncBackend other(options);
    other.Open();
    options.name_space = OptionsOn(files).name_space;
    options.shape.block_size *= 2;
    SyncBackend other_shape(options);
    other_shape.Open();
    const auto file_of = [&](SyncBackend& backend, const BlockKey& key) -> auto& {
        return files->tree().files[backend.backend().layout().BlockFile(key)];
    };
    for (const BlockKey& key : KeysFrom(0, 2)) {
        UCM_CHECK(store.Dump(key) == BlockStatus::kOk && other.Dump(key) == BlockStatus::kOk);
    }
    // Two blocks swapped, then one of another model, then one of another block size.
    std::swap(file_of(store, KeyOf(0)), file_of(store, KeyOf(1)));
    UCM_CHECK(store.Load(KeyOf(0)) == BlockStatus::kCorrupt);
    UCM_CHECK(store.Load(KeyOf(1)) == BlockStatus::kCorrupt);
    UCM_CHECK(store.Load(KeyOf(0)) == BlockStatus::kMissing);
    file_of(store, KeyOf(0)) = file_of(other, KeyOf(0));
    UCM_CHECK(store.Load(KeyOf(0)) == BlockStatus::kCorrupt);
    UCM_CHECK(other_shape.Dump(KeyOf(1)) == BlockStatus::kOk);
    UCM_CHECK(store.Load(KeyOf(1)) == BlockStatus::kCorrupt);
    // After it, the blocks can be stored again.
    UCM_CHECK(store.Dump(KeyOf(0)) == BlockStatus::kOk && store.Load(KeyOf(0)) == BlockStatus::kOk);
}

UCM_TEST(store_damage_on_a_real_file_system) {
    const TempFolder folder;
    const auto store = OpenFiles(SmallOptions(folder.path()));
    const std::vector<BlockKey> keys = KeysFrom(0, 40);
    UCM_CHECK(AllAre(DumpAll(*store, keys), BlockStatus::kOk));
    Random random(6);
    int64_t damaged = 0;
    for (const std::string& path : FilesUnder(folder.path() + "/ucm-v1/blocks")) {
        if (!path.ends_with(".kv") || random.Integer(0, 1) == 0) continue;
        const std::string original = ReadFile(path);
        const std::string content =
            kMutations[static_cast<std::size_t>(damaged) % std::size(kMutations)](original, random);
        if (content == original) continue;
        WriteFile(path, content);
        ++damaged;
    }
    const std::vector<BlockStatus> statuses = LoadAll(*store, keys);
    UCM_CHECK(CountOf(statuses, BlockStatus::kCorrupt) == damaged);
    UCM_CHECK(CountOf(statuses, BlockStatus::kOk) == 40 - damaged);
    UCM_CHECK(StatOf(*store, "quarantinedBlocks") == damaged);
    UCM_CHECK(static_cast<int64_t>(FilesUnder(folder.path() + "/ucm-v1/quarantine").size()) ==
              damaged);
    UCM_CHECK(CountOf(DumpAll(*store, keys), BlockStatus::kOk) == 40);
    UCM_CHECK(AllAre(LoadAll(*store, keys), BlockStatus::kOk));
}

/** Lookups do not read a file, but see that it has not the size of a block. */
UCM_TEST(store_lookup_sees_wrong_sizes) {
    const TempFolder folder;
    FileStoreOptions options = SmallOptions(folder.path());
    {
        const auto store = OpenFiles(options);
        UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 1)), BlockStatus::kOk));
        store->Close(std::chrono::milliseconds(1000));
    }
    std::filesystem::resize_file(FilesUnder(folder.path()).front(), 5000);
    const auto store = OpenFiles(options);
    UCM_CHECK(LookupAll(*store, KeysFrom(0, 1)).front() == Presence::kMissing);
    UCM_CHECK(AllAre(DumpAll(*store, KeysFrom(0, 1)), BlockStatus::kOk));
    UCM_CHECK(AllAre(LoadAll(*store, KeysFrom(0, 1)), BlockStatus::kOk));
}

}  // namespace
}  // namespace ucm::test
