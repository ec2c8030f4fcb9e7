#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "store/block_buffer.h"
#include "store/block_format.h"
#include "store/file_system.h"
#include "store/io_pool.h"

namespace ucm {

enum class SyncPolicy : uint8_t {
    /** The kernel writes when it likes; what a power cut tears is found by its checksum. */
    kNone,
    /** Data is on the device before the file gets its name. */
    kData,
};

/** How block files are read and written. */
struct BlockFileOptions {
    bool direct = false;
    SyncPolicy sync = SyncPolicy::kNone;
    /** Bytes of one read or write call. */
    int64_t io_bytes = 256 * 1024;
};

/**
 * Writes a whole block under `temp_path`, which must not exist, and renames it to `path`. `header` is
 * aligned for direct I/O. On failure nothing but perhaps a temporary file is left. Returns 0 or a
 * negative errno.
 */
int WriteBlockFile(FileSystem& files, const BlockFileOptions& options, const std::string& temp_path,
                   const std::string& path, std::span<const uint8_t> header,
                   const BlockBuffer& block);

/** Reads one block file in pieces and checks every byte of it. */
class BlockReader {
  public:
    enum class Outcome { kMore, kDone, kMissing, kCorrupt, kFailed, kStopped };

    /**
     * Takes payload bytes at an offset of the block and returns their CRC-32C after `crc`, or false
     * to stop. They are not verified yet.
     */
    using Sink = std::function<bool(int64_t offset, const uint8_t* data, std::size_t size,
                                    uint32_t* crc)>;

    BlockReader(std::shared_ptr<FileSystem> files, const BlockShape& shape,
                const Digest& name_space, const BlockKey& key);
    ~BlockReader();
    BlockReader(const BlockReader&) = delete;
    BlockReader& operator=(const BlockReader&) = delete;

    /** kMore when there is a file of the right size. */
    Outcome Open(const std::string& path, bool direct);
    /** Reads as much as fits into `staging`, at least the header's size. */
    Outcome Read(const Staging& staging, const Sink& sink);
    /** Reads and checks the header alone. kMore when it is this block's. */
    Outcome ReadHeader(const Staging& staging);
    /**
     * After ReadHeader: one layer, in as many calls as it takes; kDone when its sum was right. The
     * sink's offsets are within the layer.
     */
    Outcome ReadLayer(int32_t layer, const Staging& staging, const Sink& sink);
    void Close();

    bool is_open() const { return file_ >= 0; }
    /** Layers from the first on whose bytes went to the sink and have the right sum. */
    int32_t verified_layers() const { return layer_; }
    const FileInfo& info() const { return info_; }
    int file() const { return file_; }
    /** The errno of kFailed, positive. */
    int error() const { return error_; }

  private:
    Outcome Fail(ssize_t error);
    /** Fills [data, data + size) from position_ on; short only at an error or an early end. */
    ssize_t Fill(uint8_t* data, int64_t size);
    Outcome Consume(const uint8_t* data, int64_t size, const Sink& sink);

    const std::shared_ptr<FileSystem> files_;
    const BlockShape shape_;
    const Digest name_space_;
    const BlockKey key_;
    int file_ = -1;
    bool direct_ = false;
    FileInfo info_;
    int error_ = 0;
    /** Next byte of the file. */
    int64_t position_ = 0;
    std::vector<uint32_t> checksums_;
    int32_t layer_ = 0;
    /** Sum and bytes so far of the layer's piece. */
    uint32_t crc_ = 0;
    int64_t piece_ = 0;
};

}  // namespace ucm
