// Power cuts, simulated, and writers that are killed, really.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "test/store_backend.h"
#include "test/store_file_systems.h"

namespace ucm::test {
namespace {

using Change = MemoryFileSystem::Change;
using Tree = MemoryFileSystem::Tree;
using Inode = MemoryFileSystem::Inode;
using std::chrono::milliseconds;

/**
 * What a disk may hold when the power went after some changes: names are as they were at any earlier
 * time, since renames wait for no data; of the data of a file, what was written before its last sync
 * is there, and of every later write nothing, all, some sectors, or a beginning.
 */
class PowerCut {
  public:
    PowerCut(const Tree& before, const std::vector<Change>& log) : before_(before), log_(log) {}

    Tree Draw(Random& random) const {
        const int64_t end = random.Integer(0, static_cast<int64_t>(log_.size()));
        const int64_t names_end = random.Integer(0, 3) == 0 ? random.Integer(0, end) : end;
        // From a disk that lost most of what was not synced to one that lost next to nothing.
        const int64_t kept_percent = random.Integer(0, 100);
        Tree tree;
        tree.directories = before_.directories;
        std::map<uint64_t, std::shared_ptr<Inode>> inodes;
        for (const auto& [path, inode] : before_.files) {
            auto& copy = inodes[inode->number];
            if (copy == nullptr) copy = std::make_shared<Inode>(*inode);
            tree.files[path] = copy;
        }
        for (int64_t i = 0; i < end; ++i) ReplayData(i, end, kept_percent, inodes, random);
        for (int64_t i = 0; i < names_end; ++i) {
            ReplayName(log_[static_cast<std::size_t>(i)], inodes, tree);
        }
        return tree;
    }

  private:
    bool IsSynced(uint64_t inode, int64_t from, int64_t end) const {
        for (int64_t i = from; i < end; ++i) {
            const Change& change = log_[static_cast<std::size_t>(i)];
            if (change.kind == Change::kSync && change.inode == inode) return true;
        }
        return false;
    }

    void ReplayData(int64_t at, int64_t end, int64_t kept_percent,
                    std::map<uint64_t, std::shared_ptr<Inode>>& inodes, Random& random) const {
        const Change& change = log_[static_cast<std::size_t>(at)];
        if (change.kind == Change::kCreate) {
            auto inode = std::make_shared<Inode>();
            inode->number = change.inode;
            inode->links = 1;
            inodes[change.inode] = inode;
            return;
        }
        if (change.kind != Change::kWrite && change.kind != Change::kTruncate) return;
        Inode& inode = *inodes.at(change.inode);
        const bool kept =
            IsSynced(change.inode, at, end) || random.Integer(1, 100) <= kept_percent;
        if (change.kind == Change::kTruncate) {
            if (kept) inode.content.resize(static_cast<std::size_t>(change.offset));
            return;
        }
        Write(inode, change, kept ? 0 : random.Integer(1, 5), random);
    }

    static void Write(Inode& inode, const Change& change, int64_t how, Random& random) {
        const auto offset = static_cast<std::size_t>(change.offset);
        const std::size_t size = change.data.size();
        const std::size_t unit = random.Integer(0, 1) == 0 ? 512 : 4096;
        // 1: the write is lost; 2: only the file's length is there; others follow below.
        if (how == 1) return;
        if (inode.content.size() < offset + size) inode.content.resize(offset + size);
        if (how == 2) return;
        const auto units = static_cast<int64_t>((size + unit - 1) / unit);
        const int64_t torn_at = how == 3 ? random.Integer(0, units) : units;
        for (int64_t i = 0; i < torn_at; ++i) {
            if (how == 4 && random.Integer(0, 1) == 0) continue;
            const std::size_t from = static_cast<std::size_t>(i) * unit;
            inode.content.replace(offset + from, std::min(unit, size - from), change.data, from,
                                  std::min(unit, size - from));
        }
        if (how == 5) {
            const int64_t length = random.Integer(0, static_cast<int64_t>(size));
            inode.content.resize(offset + static_cast<std::size_t>(length));
        }
    }

    static void ReplayName(const Change& change,
                           const std::map<uint64_t, std::shared_ptr<Inode>>& inodes, Tree& tree) {
        const auto found = tree.files.find(change.path);
        switch (change.kind) {
            case Change::kCreate: tree.files[change.path] = inodes.at(change.inode); break;
            case Change::kRename:
                if (found == tree.files.end()) break;
                tree.files[change.target] = found->second;
                tree.files.erase(change.path);
                break;
            case Change::kLink:
                if (found == tree.files.end()) break;
                tree.files[change.target] = found->second;
                ++found->second->links;
                break;
            case Change::kUnlink: tree.files.erase(change.path); break;
            default: break;
        }
    }

    const Tree& before_;
    const std::vector<Change>& log_;
};

Tree CopyOf(const Tree& tree) {
    Tree copy{{}, tree.directories};
    for (const auto& [path, inode] : tree.files) {
        copy.files[path] = std::make_shared<Inode>(*inode);
    }
    return copy;
}

FileStoreOptions OptionsOn(const std::shared_ptr<FileSystem>& files, SyncPolicy sync) {
    FileStoreOptions options = SmallOptions("/m");
    options.files = files;
    options.file.sync = sync;
    options.capacity_bytes = 8 * 20480;
    return options;
}

/** Dumps, loads, pins, damages, recycles: everything that changes files. */
void ChangeThings(SyncBackend& store, MemoryFileSystem& files) {
    for (const BlockKey& key : KeysFrom(0, 5)) UCM_CHECK(store.Dump(key) == BlockStatus::kOk);
    store.backend().AddPin(KeyOf(1));
    UCM_CHECK(store.backend().Pin(KeyOf(1)) == BlockStatus::kOk);
    files.tree().files.at(store.backend().layout().BlockFile(KeyOf(2)))->content[5000] ^= 1;
    UCM_CHECK(store.Load(KeyOf(2)) == BlockStatus::kCorrupt);
    UCM_CHECK(store.Dump(KeyOf(2)) == BlockStatus::kOk);
    UCM_CHECK(store.backend().Forget(KeyOf(3)) == BlockStatus::kOk);
    for (const BlockKey& key : KeysFrom(5, 4)) UCM_CHECK(store.Dump(key) == BlockStatus::kOk);
    store.backend().Clean(std::chrono::seconds(0));
}

/** With data synced, a block that has its name is whole. */
void CutPowerEverywhere(SyncPolicy sync, int64_t states) {
    const auto files = std::make_shared<MemoryFileSystem>();
    files->MakeDirectory("/m");
    FileStoreOptions options = OptionsOn(files, sync);
    SyncBackend writer(options);
    writer.Open();
    files->TakeLog();
    const Tree before = CopyOf(files->tree());
    ChangeThings(writer, *files);
    const std::vector<Change> log = files->TakeLog();
    // Directories that were made meanwhile exist from the start: without them names just are missing.
    Tree start = before;
    start.directories = files->tree().directories;
    const PowerCut cut(start, log);
    Random random(7);
    int64_t whole = 0;
    int64_t damaged = 0;
    for (int64_t state = 0; state < states; ++state) {
        options.files = std::make_shared<MemoryFileSystem>(cut.Draw(random));
        SyncBackend reader(options);
        reader.Open();
        for (const BlockKey& key : KeysFrom(0, 9)) {
            const BlockStatus status = reader.Load(key);
            UCM_CHECK(status == BlockStatus::kOk || status == BlockStatus::kMissing ||
                      status == BlockStatus::kCorrupt);
            whole += status == BlockStatus::kOk;
            damaged += status == BlockStatus::kCorrupt;
        }
        if (state % 16 != 0) continue;
        // And the store goes on from there.
        reader.backend().Clean(std::chrono::seconds(0));
        UCM_CHECK(reader.Dump(KeyOf(50)) == BlockStatus::kOk);
        UCM_CHECK(reader.Load(KeyOf(50)) == BlockStatus::kOk);
    }
    std::printf("   %lld states: %lld blocks whole, %lld found torn\n",
                static_cast<long long>(states), static_cast<long long>(whole),
                static_cast<long long>(damaged));
    UCM_CHECK(whole > 0);
    UCM_CHECK(sync == SyncPolicy::kData ? damaged == 0 : damaged > 0);
}

UCM_TEST(store_power_cut_without_sync) { CutPowerEverywhere(SyncPolicy::kNone, Trials(20'000)); }
UCM_TEST(store_power_cut_with_sync) { CutPowerEverywhere(SyncPolicy::kData, Trials(5'000)); }

/** In a process of its own, which another one kills. */
[[noreturn]] void WriteUntilKilled(const std::string& folder, uint64_t seed, int ready) {
    FileStoreOptions options = SmallOptions(folder);
    options.capacity_bytes = 60 * 20480;
    std::shared_ptr<FileStore> store;
    if (!FileStore::Open(options, &store).ok()) _exit(3);
    Random random(static_cast<uint32_t>(seed));
    if (write(ready, "x", 1) != 1) _exit(4);
    for (;;) {
        const auto keys = KeysFrom(static_cast<uint64_t>(random.Integer(0, 100)), 8);
        DumpAll(*store, keys);
        PinAll(*store, {keys[0]});
        LoadAll(*store, keys);
        ForgetAll(*store, {keys[1], keys[2]});
    }
}

UCM_TEST(store_killed_writers_leave_nothing_wrong) {
    const TempFolder folder;
    Random random(8);
    int64_t whole = 0;
    const int64_t kills = std::max<int64_t>(Trials(60), 5);
    for (int64_t kill_number = 0; kill_number < kills; ++kill_number) {
        int ready[2];
        UCM_CHECK(pipe(ready) == 0);
        const pid_t child = fork();
        if (child == 0) WriteUntilKilled(folder.path(), static_cast<uint64_t>(kill_number), ready[1]);
        // A child that ends before it is ready must end the read.
        close(ready[1]);
        char byte = 0;
        UCM_CHECK(read(ready[0], &byte, 1) == 1);
        std::this_thread::sleep_for(std::chrono::microseconds(random.Integer(0, 30'000)));
        UCM_CHECK(kill(child, SIGKILL) == 0);
        UCM_CHECK(waitpid(child, nullptr, 0) == child);
        close(ready[0]);
        const auto store = OpenFiles(SmallOptions(folder.path()));
        const std::vector<BlockStatus> statuses = LoadAll(*store, KeysFrom(0, 110));
        whole += CountOf(statuses, BlockStatus::kOk);
        UCM_CHECK(CountOf(statuses, BlockStatus::kOk) + CountOf(statuses, BlockStatus::kMissing) ==
                  110);
        store->CollectNow();
        std::string writer = std::to_string(child);
        writer.insert(0, 1, '-').push_back('-');
        for (const std::string& path : FilesUnder(folder.path())) {
            // Of the dead writer, neither files nor claims nor pins are left.
            UCM_CHECK_MESSAGE(!path.ends_with(".tmp"), path);
            UCM_CHECK_MESSAGE(path.find(writer) == std::string::npos, path);
        }
        store->Close(milliseconds(1000));
    }
    std::printf("   %lld kills: %lld blocks whole, none damaged\n", static_cast<long long>(kills),
                static_cast<long long>(whole));
    UCM_CHECK(whole > 0);
}

}  // namespace
}  // namespace ucm::test
