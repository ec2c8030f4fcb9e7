#include "test/store_backend.h"

#include <map>

#include "store/crc32c.h"

namespace ucm::test {

namespace {

/** One pool for all backends of a shape: tests make thousands of them. */
std::shared_ptr<BlockBufferPool> BuffersOf(const BlockShape& shape) {
    static std::map<int64_t, std::shared_ptr<BlockBufferPool>> pools;
    std::shared_ptr<BlockBufferPool>& pool = pools[shape.bytes_per_block];
    if (pool == nullptr) {
        UCM_CHECK(BlockBufferPool::Create(shape, 1 << 20, "the test's buffer", &pool).ok());
    }
    return pool;
}

}  // namespace

SyncBackend::SyncBackend(const FileStoreOptions& options)
    : options_(options), buffers_(BuffersOf(options.shape)) {
    backend_ = std::make_shared<FileBackend>(options, options.backends.front(),
                                             options.capacity_bytes, std::make_shared<Counters>());
    // Header, and pieces of the block that end anywhere.
    memory_.resize(3 * block_format::kAlignment);
    auto address = reinterpret_cast<uintptr_t>(memory_.data());
    address = static_cast<uintptr_t>(block_format::AlignUp(static_cast<int64_t>(address)));
    staging_ = {reinterpret_cast<uint8_t*>(address), 2 * block_format::kAlignment};
}

void SyncBackend::Open() {
    const Status status = backend_->Open();
    UCM_CHECK_MESSAGE(status.ok(), status.message());
}

BlockStatus SyncBackend::Dump(const BlockKey& key) {
    const std::shared_ptr<BlockBuffer> buffer = buffers_->TryAcquire();
    buffer->Fill(ContentOf(key, options_.shape).data());
    return backend_->Store(key, *buffer, staging_);
}

BlockStatus SyncBackend::Load(const BlockKey& key) {
    std::vector<uint8_t> loaded(static_cast<std::size_t>(options_.shape.bytes_per_block));
    BlockReader reader(options_.files, options_.shape, options_.name_space, key);
    BlockReader::Outcome outcome = backend_->OpenBlock(key, &reader);
    while (outcome == BlockReader::Outcome::kMore) {
        outcome = reader.Read(staging_, [&](int64_t offset, const uint8_t* data, std::size_t size,
                                            uint32_t* crc) {
            *crc = CopyWithCrc32c(loaded.data() + offset, data, size, *crc);
            return true;
        });
    }
    const BlockStatus status = backend_->Conclude(key, outcome, &reader);
    UCM_CHECK(status != BlockStatus::kOk || loaded == ContentOf(key, options_.shape));
    return status;
}

}  // namespace ucm::test
