#pragma once

#include <memory>
#include <string>
#include <vector>

#include "store/file_backend.h"
#include "test/store_fixture.h"

namespace ucm::test {

/** A FileBackend without threads, whose operations are done when they return. */
class SyncBackend {
  public:
    explicit SyncBackend(const FileStoreOptions& options);

    /** Fails the test when the folder cannot be used. */
    void Open();
    Status TryOpen() { return backend_->Open(); }
    BlockStatus Dump(const BlockKey& key);
    /** Checks that a block that is said to be loaded has its key's content. */
    BlockStatus Load(const BlockKey& key);
    FileBackend& backend() { return *backend_; }

  private:
    const FileStoreOptions options_;
    std::shared_ptr<BlockBufferPool> buffers_;
    std::shared_ptr<FileBackend> backend_;
    std::vector<uint8_t> memory_;
    Staging staging_;
};

}  // namespace ucm::test
