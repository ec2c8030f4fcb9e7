#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "store/file_store.h"
#include "store/kv_store.h"
#include "test/check.h"
#include "test/random.h"

namespace ucm::test {

/** How many of `count` trials to run: fewer under sanitizers, more with UCM_STORE_TEST_SCALE. */
int64_t Trials(int64_t count);

/** An empty folder that is removed at the end. */
class TempFolder {
  public:
    TempFolder();
    ~TempFolder();
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

BlockKey KeyOf(uint64_t number);
std::vector<BlockKey> KeysFrom(uint64_t first, std::size_t count);

/** The one content that a key's block may have. */
std::vector<uint8_t> ContentOf(const BlockKey& key, const BlockShape& shape);

/** 3 layers that are no multiple of anything, in about 3 pages. */
constexpr BlockShape kSmallShape{.bytes_per_block = 3 * 4099, .num_layers = 3, .block_size = 16};

FileStoreOptions SmallOptions(const std::string& folder);
std::shared_ptr<FileStore> OpenFiles(const FileStoreOptions& options);

/** What `start` begins, once it is done; fails the test when that does not come. */
std::vector<BlockStatus> AwaitBlocks(const std::function<void(BlocksDone)>& start);

/** The calls of a store that wait for their completion; they fail the test when it does not come. */
std::vector<BlockStatus> DumpAll(KvStore& store, const std::vector<BlockKey>& keys);
std::vector<BlockStatus> PinAll(KvStore& store, const std::vector<BlockKey>& keys);
std::vector<BlockStatus> ForgetAll(KvStore& store, const std::vector<BlockKey>& keys);
std::vector<Presence> LookupAll(KvStore& store, const std::vector<BlockKey>& keys);

/** Loads and checks that every block that is said to be loaded has its key's content. */
std::vector<BlockStatus> LoadAll(KvStore& store, const std::vector<BlockKey>& keys);

/** How many are `status`. */
int64_t CountOf(const std::vector<BlockStatus>& statuses, BlockStatus status);
bool AllAre(const std::vector<BlockStatus>& statuses, BlockStatus status);

/** A named value of a store's only tier, or of the one called `tier`. */
int64_t StatOf(const KvStore& store, const std::string& name, const std::string& tier = "");

/** Waits until `condition` holds; fails the test when it takes very long. */
template <typename Condition>
void Eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
        UCM_CHECK(std::chrono::steady_clock::now() < deadline);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

std::vector<std::string> FilesUnder(const std::string& folder);
std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& content);

}  // namespace ucm::test
