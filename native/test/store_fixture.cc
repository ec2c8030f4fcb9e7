#include "test/store_fixture.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>

#include "store/crc32c.h"

namespace ucm::test {
namespace {

constexpr std::chrono::seconds kLongest{60};

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int64_t kSlowdown = 20;
#else
constexpr int64_t kSlowdown = 1;
#endif

template <typename Result, typename Start>
Result Await(Start start) {
    auto promise = std::make_shared<std::promise<Result>>();
    std::future<Result> future = promise->get_future();
    start([promise](Result result) { promise->set_value(std::move(result)); });
    UCM_CHECK(future.wait_for(kLongest) == std::future_status::ready);
    return future.get();
}

using Statuses = std::vector<BlockStatus>;

}  // namespace

int64_t Trials(int64_t count) {
    const char* scale = std::getenv("UCM_STORE_TEST_SCALE");
    const int64_t factor = scale == nullptr ? 1 : std::atoll(scale);
    return std::max<int64_t>(1, count * factor / kSlowdown);
}

TempFolder::TempFolder() {
    std::string name = std::filesystem::temp_directory_path() / "ucm-store-XXXXXX";
    UCM_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
}

TempFolder::~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

BlockKey KeyOf(uint64_t number) {
    std::mt19937_64 engine(number + 1);
    BlockKey key;
    for (std::size_t i = 0; i < key.bytes.size(); i += 8) {
        const uint64_t word = engine();
        std::memcpy(key.bytes.data() + i, &word, sizeof(word));
    }
    return key;
}

std::vector<BlockKey> KeysFrom(uint64_t first, std::size_t count) {
    std::vector<BlockKey> keys;
    for (std::size_t i = 0; i < count; ++i) keys.push_back(KeyOf(first + i));
    return keys;
}

std::vector<uint8_t> ContentOf(const BlockKey& key, const BlockShape& shape) {
    std::vector<uint8_t> content(static_cast<std::size_t>(shape.bytes_per_block) + 8);
    uint64_t state = key.Word() | 1;
    for (std::size_t i = 0; i + 8 <= content.size(); i += 8) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint64_t word = state ^ state >> 29;
        std::memcpy(content.data() + i, &word, sizeof(word));
    }
    content.resize(static_cast<std::size_t>(shape.bytes_per_block));
    return content;
}

FileStoreOptions SmallOptions(const std::string& folder) {
    FileStoreOptions options;
    options.shape = kSmallShape;
    options.name_space = KeyOf(1'000'000);
    options.backends = {folder};
    options.threads = 4;
    options.file.io_bytes = 4096;
    options.write_buffer_bytes = 1 << 20;
    options.stall_timeout = std::chrono::milliseconds(10000);
    return options;
}

std::shared_ptr<FileStore> OpenFiles(const FileStoreOptions& options) {
    std::shared_ptr<FileStore> store;
    const Status status = FileStore::Open(options, &store);
    UCM_CHECK_MESSAGE(status.ok(), status.message());
    return store;
}

Statuses AwaitBlocks(const std::function<void(BlocksDone)>& start) {
    return Await<Statuses>([&](auto done) { start(done); });
}

Statuses DumpAll(KvStore& store, const std::vector<BlockKey>& keys) {
    std::vector<std::vector<uint8_t>> contents;
    std::vector<DumpSource> sources;
    for (const BlockKey& key : keys) {
        contents.push_back(ContentOf(key, store.shape()));
        sources.push_back({key, contents.back().data()});
    }
    return Await<Statuses>([&](auto done) {
        store.Dump(sources, done);
        // The store has its own copy now.
        for (auto& content : contents) std::fill(content.begin(), content.end(), 0xee);
    });
}

Statuses PinAll(KvStore& store, const std::vector<BlockKey>& keys) {
    return Await<Statuses>([&](auto done) { store.Pin(keys, done); });
}

Statuses ForgetAll(KvStore& store, const std::vector<BlockKey>& keys) {
    return Await<Statuses>([&](auto done) { store.Forget(keys, done); });
}

std::vector<Presence> LookupAll(KvStore& store, const std::vector<BlockKey>& keys) {
    return Await<std::vector<Presence>>([&](auto done) { store.Lookup(keys, done); });
}

Statuses LoadAll(KvStore& store, const std::vector<BlockKey>& keys) {
    const auto bytes = static_cast<std::size_t>(store.shape().bytes_per_block);
    std::vector<uint8_t> memory(bytes * keys.size(), 0xcc);
    std::vector<LoadTarget> targets;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        targets.push_back({keys[i], memory.data() + i * bytes});
    }
    // Progress comes on other threads, but in order and before the end.
    auto reported = std::make_shared<int32_t>(0);
    const Statuses statuses = Await<Statuses>([&](auto done) {
        store.Load(std::make_shared<LoadBatch>(
            targets, store.shape().num_layers,
            [reported](int32_t layers) {
                UCM_CHECK(layers > *reported);
                *reported = layers;
            },
            done));
    });
    UCM_CHECK(keys.empty() || *reported == store.shape().num_layers);
    for (std::size_t i = 0; i < keys.size(); ++i) {
        if (statuses[i] != BlockStatus::kOk) continue;
        const std::vector<uint8_t> expected = ContentOf(keys[i], store.shape());
        UCM_CHECK(std::memcmp(targets[i].data, expected.data(), bytes) == 0);
    }
    return statuses;
}

int64_t CountOf(const Statuses& statuses, BlockStatus status) {
    return std::count(statuses.begin(), statuses.end(), status);
}

bool AllAre(const Statuses& statuses, BlockStatus status) {
    return CountOf(statuses, status) == static_cast<int64_t>(statuses.size());
}

int64_t StatOf(const KvStore& store, const std::string& name, const std::string& tier) {
    for (const TierStats& stats : store.Stats()) {
        if (!tier.empty() && stats.tier != tier) continue;
        for (const auto& [known, value] : stats.values) {
            if (known == name) return value;
        }
    }
    UCM_CHECK_MESSAGE(false, "no statistic is called " + name);
    return 0;
}

std::vector<std::string> FilesUnder(const std::string& folder) {
    std::vector<std::string> paths;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, ignored)) {
        if (entry.is_regular_file(ignored)) paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
}

std::string ReadFile(const std::string& path) {
    std::ostringstream content;
    content << std::ifstream(path, std::ios::binary).rdbuf();
    return content.str();
}

void WriteFile(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
}

}  // namespace ucm::test
