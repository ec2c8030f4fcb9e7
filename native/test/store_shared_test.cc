// Many threads and processes in one folder, each checked against what it may see.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "store/dram_store.h"
#include "store/pipeline_store.h"
#include "test/store_fixture.h"

namespace ucm::test {
namespace {

using std::chrono::milliseconds;
using Statuses = std::vector<BlockStatus>;

constexpr int64_t kSharedKeys = 60;
constexpr int64_t kNoLimit = INT64_MAX;

/** How long clients act, whichever comes first. */
struct Patience {
    int64_t actions = kNoLimit;
    Clock::time_point end = Clock::time_point::max();
};

/** Several processes in one folder. */
struct Crowd {
    int processes;
    int64_t keys;
    Patience patience;
};

Crowd CrowdOfTheDay() {
    if (Trials(1000) > 1000) return {8, 1000, {kNoLimit, Clock::now() + std::chrono::minutes(1)}};
    return {4, kSharedKeys, {Trials(500), Clock::time_point::max()}};
}

std::vector<BlockKey> SomeKeys(Random& random, uint64_t first, int64_t count) {
    std::vector<BlockKey> keys;
    for (int64_t i = random.Integer(1, 6); i > 0; --i) {
        keys.push_back(KeyOf(first + static_cast<uint64_t>(random.Integer(0, count - 1))));
    }
    std::sort(keys.begin(), keys.end(),
              [](const BlockKey& a, const BlockKey& b) { return a.bytes < b.bytes; });
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    return keys;
}

/**
 * What one client knows of blocks that only it writes: with no quota, what it stored is there until
 * it forgets it. LoadAll checks the content of whatever is loaded, its own and the others'.
 */
class Client {
  public:
    Client(KvStore& store, uint32_t id, bool certain, int64_t shared_keys)
        : store_(store),
          random_(id),
          own_(1'000'000 * (id + 1)),
          certain_(certain),
          shared_keys_(shared_keys) {}

    void Act() {
        const bool own = random_.Integer(0, 1) == 0;
        const auto keys = SomeKeys(random_, own ? own_ : 0, own ? 20 : shared_keys_);
        switch (random_.Integer(0, 9)) {
            case 0: case 1: case 2: Dump(keys, own); break;
            case 3: Forget(keys, own); break;
            case 4: Pin(keys); break;
            case 5: LookupAll(store_, keys); break;
            default: Load(keys, own); break;
        }
    }
    ~Client() {
        for (const auto& keys : pinned_) store_.Unpin(keys);
    }

  private:
    void Dump(const std::vector<BlockKey>& keys, bool own) {
        const Statuses statuses = DumpAll(store_, keys);
        for (std::size_t i = 0; own && i < keys.size(); ++i) {
            if (statuses[i] == BlockStatus::kOk) model_[keys[i].Hex()] = true;
        }
        UCM_CHECK(!certain_ || AllAre(statuses, BlockStatus::kOk));
    }
    void Forget(const std::vector<BlockKey>& keys, bool own) {
        ForgetAll(store_, keys);
        for (std::size_t i = 0; own && i < keys.size(); ++i) model_[keys[i].Hex()] = false;
    }
    void Load(const std::vector<BlockKey>& keys, bool own) {
        const Statuses statuses = LoadAll(store_, keys);
        for (std::size_t i = 0; i < keys.size(); ++i) {
            UCM_CHECK(statuses[i] == BlockStatus::kOk || statuses[i] == BlockStatus::kMissing ||
                      statuses[i] == BlockStatus::kCorrupt);
            if (!own) continue;
            const bool present = statuses[i] == BlockStatus::kOk;
            // Nobody else writes it; so it is not there before it is stored, nor once forgotten.
            UCM_CHECK(!present || model_[keys[i].Hex()]);
            UCM_CHECK(present || !certain_ || !model_[keys[i].Hex()]);
        }
    }
    void Pin(const std::vector<BlockKey>& keys) {
        const Statuses statuses = PinAll(store_, keys);
        std::vector<BlockKey> held;
        for (std::size_t i = 0; i < keys.size(); ++i) {
            if (statuses[i] == BlockStatus::kOk) held.push_back(keys[i]);
        }
        // Pinned blocks stay, but for those who forget them.
        pinned_.push_back(held);
        if (pinned_.size() < 4) return;
        store_.Unpin(pinned_.front());
        pinned_.erase(pinned_.begin());
    }

    KvStore& store_;
    Random random_;
    const uint64_t own_;
    const bool certain_;
    const int64_t shared_keys_;
    std::map<std::string, bool> model_;
    std::vector<std::vector<BlockKey>> pinned_;
};

/** Returns how often the clients acted in all. */
int64_t RunClients(KvStore& store, int threads, uint32_t first_id, bool certain,
                   const Patience& patience, int64_t shared_keys = kSharedKeys) {
    std::vector<std::thread> clients;
    std::atomic<int64_t> total{0};
    for (int i = 0; i < threads; ++i) {
        clients.emplace_back([&, i] {
            Client client(store, first_id + static_cast<uint32_t>(i), certain, shared_keys);
            int64_t action = 0;
            for (; action < patience.actions && Clock::now() < patience.end; ++action) client.Act();
            total += action;
        });
    }
    for (std::thread& client : clients) client.join();
    return total.load();
}

UCM_TEST(store_many_threads_in_memory) {
    std::shared_ptr<DramStore> store;
    UCM_CHECK(DramStore::Open({.shape = kSmallShape, .capacity_bytes = 400 * 16384, .threads = 2},
                              &store)
                  .ok());
    RunClients(*store, 4, 0, true, {Trials(4000)});
    UCM_CHECK(DramStore::Open({.shape = kSmallShape, .capacity_bytes = 10 * 16384, .threads = 2},
                              &store)
                  .ok());
    RunClients(*store, 4, 0, false, {Trials(4000)});
    UCM_CHECK(StatOf(*store, "pinnedBlocks") == 0 && StatOf(*store, "corruptBlocks") == 0);
    UCM_CHECK(StatOf(*store, "buffersInUse") == StatOf(*store, "blocks"));
}

UCM_TEST(store_many_threads_in_files) {
    const TempFolder folder;
    const auto store = OpenFiles(SmallOptions(folder.path()));
    RunClients(*store, 4, 0, true, {Trials(600)});
    Eventually([&] { return StatOf(*store, "pinnedBlocks") == 0; });
    UCM_CHECK(StatOf(*store, "corruptBlocks") == 0);
}

UCM_TEST(store_many_threads_in_memory_before_files) {
    const TempFolder folder;
    FileStoreOptions options = SmallOptions(folder.path());
    options.capacity_bytes = 100 * 20480;
    std::shared_ptr<DramStore> memory;
    UCM_CHECK(DramStore::Open({.shape = kSmallShape, .capacity_bytes = 12 * 16384, .threads = 2},
                              &memory)
                  .ok());
    PipelineStore store(memory, OpenFiles(options), 8);
    std::vector<std::thread> clients;
    for (uint64_t id = 0; id < 4; ++id) {
        clients.emplace_back([&, id] {
            Random random(static_cast<uint32_t>(id));
            for (int64_t action = 0; action < Trials(600); ++action) {
                const auto keys = SomeKeys(random, 0, kSharedKeys);
                switch (random.Integer(0, 5)) {
                    case 0: case 1: DumpAll(store, keys); break;
                    case 2: ForgetAll(store, keys); break;
                    case 3: {
                        const Statuses statuses = PinAll(store, keys);
                        std::vector<BlockKey> held;
                        for (std::size_t i = 0; i < keys.size(); ++i) {
                            if (statuses[i] == BlockStatus::kOk) held.push_back(keys[i]);
                        }
                        store.Unpin(held);
                        break;
                    }
                    default: LoadAll(store, keys); break;
                }
            }
        });
    }
    for (std::thread& client : clients) client.join();
    Eventually([&] { return StatOf(store, "pinnedBlocks", "files") == 0; });
    UCM_CHECK(StatOf(store, "pinnedBlocks", "memory") == 0);
    UCM_CHECK(StatOf(store, "corruptBlocks", "files") == 0);
    store.Close(milliseconds(5000));
}

/** Overwrites, cuts and removes whatever it finds, as no program that means well does. */
void Vandalise(const std::string& folder, Random& random) {
    std::error_code ignored;
    for (const std::string& path : FilesUnder(folder + "/ucm-v1/blocks")) {
        if (random.Integer(0, 40) != 0) continue;
        switch (random.Integer(0, 2)) {
            case 0: std::filesystem::resize_file(path, static_cast<uintmax_t>(random.Integer(0, 30'000)), ignored); break;
            case 1: std::filesystem::remove(path, ignored); break;
            default: {
                std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
                file.seekp(random.Integer(0, 16'000));
                file.put(static_cast<char>(random.Integer(0, 255)));
            }
        }
    }
}

/** One server of several, in a process of its own. */
[[noreturn]] void ServeAndExit(const std::string& folder, uint32_t id, const Crowd& crowd,
                               bool vandal, std::atomic<int64_t>* actions) {
    FileStoreOptions options = SmallOptions(folder);
    options.capacity_bytes = crowd.keys * 20480;
    std::shared_ptr<FileStore> store;
    if (!FileStore::Open(options, &store).ok()) _exit(2);
    std::atomic<bool> done{false};
    std::thread troubles([&] {
        Random random(id + 77);
        while (vandal && !done.load()) {
            Vandalise(folder, random);
            std::this_thread::sleep_for(milliseconds(20));
        }
    });
    *actions += RunClients(*store, 2, 10 * id, false, crowd.patience, crowd.keys);
    done.store(true);
    troubles.join();
    store->Close(milliseconds(2000));
    store.reset();
    _exit(0);
}

void RunProcesses(bool vandal) {
    const TempFolder folder;
    const Crowd crowd = CrowdOfTheDay();
    void* const shared = mmap(nullptr, sizeof(std::atomic<int64_t>), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    UCM_CHECK(shared != MAP_FAILED);
    auto* const actions = new (shared) std::atomic<int64_t>(0);
    std::vector<pid_t> children;
    for (int i = 0; i < crowd.processes; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            ServeAndExit(folder.path(), static_cast<uint32_t>(i), crowd, vandal && i == 0, actions);
        }
        children.push_back(child);
    }
    for (const pid_t child : children) {
        int status = 0;
        UCM_CHECK(waitpid(child, &status, 0) == child);
        // Every client checked what it saw; one that saw a wrong byte ended with another status.
        UCM_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    for (const std::string& path : FilesUnder(folder.path() + "/ucm-v1/servers")) {
        UCM_CHECK_MESSAGE(false, "a server left " + path);
    }
    std::printf("   %d processes, %lld blocks, %lld actions\n", crowd.processes,
                static_cast<long long>(crowd.keys), static_cast<long long>(actions->load()));
    munmap(shared, sizeof(std::atomic<int64_t>));
}

UCM_TEST(store_many_processes_in_one_folder) { RunProcesses(false); }
UCM_TEST(store_many_processes_and_a_vandal) { RunProcesses(true); }

}  // namespace
}  // namespace ucm::test
