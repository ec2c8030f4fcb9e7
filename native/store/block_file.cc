#include "store/block_file.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace ucm {
namespace {

using Outcome = BlockReader::Outcome;

/** Opens for direct I/O where asked for and possible; `*direct` says what it became. */
int OpenFile(FileSystem& files, const std::string& path, int flags, bool* direct) {
    constexpr int kMode = 0666;
    if (*direct) {
        const int file =
            Uninterrupted([&] { return files.Open(path, flags | O_DIRECT, kMode); });
        if (file != -EINVAL && file != -EOPNOTSUPP) return file;
        *direct = false;
        // Some file systems create the file before they refuse the flag.
        if ((flags & O_EXCL) != 0) files.Unlink(path);
    }
    return Uninterrupted([&] { return files.Open(path, flags, kMode); });
}

/** Writes [data, data + size) at `offset`; `*direct` becomes false when the device wants the cache. */
int WriteAll(FileSystem& files, int file, const uint8_t* data, int64_t size, int64_t offset,
             int64_t io_bytes, bool* direct) {
    while (size > 0) {
        IoPool::Beat();
        const auto piece = static_cast<std::size_t>(std::min(size, io_bytes));
        const ssize_t written =
            Uninterrupted([&] { return files.Write(file, data, piece, offset); });
        if (written == -EINVAL && *direct) {
            *direct = false;
            if (const int result = files.UseCache(file); result < 0) return result;
            continue;
        }
        if (written <= 0) return written < 0 ? static_cast<int>(written) : -EIO;
        data += written;
        size -= written;
        offset += written;
    }
    return 0;
}

int WriteContent(FileSystem& files, int file, const BlockFileOptions& options, bool direct,
                 std::span<const uint8_t> header, const BlockBuffer& block,
                 int64_t block_bytes) {
    const auto header_bytes = static_cast<int64_t>(header.size());
    // Direct I/O moves whole units: the rest of the last one is cut off again.
    const int64_t written_bytes = direct ? block_format::AlignUp(block_bytes) : block_bytes;
    int result = WriteAll(files, file, header.data(), header_bytes, 0, options.io_bytes, &direct);
    if (result < 0) return result;
    result = WriteAll(files, file, block.data(), written_bytes, header_bytes, options.io_bytes,
                      &direct);
    if (result < 0) return result;
    if (written_bytes != block_bytes) {
        IoPool::Beat();
        result = Uninterrupted([&] { return files.Truncate(file, header_bytes + block_bytes); });
        if (result < 0) return result;
    }
    if (options.sync == SyncPolicy::kNone) return 0;
    IoPool::Beat();
    return Uninterrupted([&] { return files.SyncData(file); });
}

}  // namespace

int WriteBlockFile(FileSystem& files, const BlockFileOptions& options, const std::string& temp_path,
                   const std::string& path, std::span<const uint8_t> header,
                   const BlockBuffer& block) {
    IoPool::Beat();
    bool direct = options.direct;
    const int file = OpenFile(files, temp_path, O_CREAT | O_EXCL | O_WRONLY, &direct);
    if (file < 0) return file;
    int result = WriteContent(files, file, options, direct, header, block, block.bytes());
    IoPool::Beat();
    // Network file systems report failed writes when the file is closed.
    const int closed = files.Close(file);
    if (result == 0 && closed < 0 && closed != -EINTR) result = closed;
    IoPool::Beat();
    if (result == 0) result = Uninterrupted([&] { return files.Rename(temp_path, path); });
    IoPool::Beat();
    if (result < 0) files.Unlink(temp_path);
    return result;
}

BlockReader::BlockReader(std::shared_ptr<FileSystem> files, const BlockShape& shape,
                         const Digest& name_space, const BlockKey& key)
    : files_(std::move(files)),
      shape_(shape),
      name_space_(name_space),
      key_(key),
      checksums_(static_cast<std::size_t>(shape.num_layers)) {}

BlockReader::~BlockReader() { Close(); }

void BlockReader::Close() {
    if (file_ < 0) return;
    files_->Close(file_);
    file_ = -1;
}

Outcome BlockReader::Fail(ssize_t error) {
    error_ = static_cast<int>(-error);
    // A file that another server removes or replaces is stale, which is as good as gone.
    return error == -ENOENT || error == -ESTALE ? Outcome::kMissing : Outcome::kFailed;
}

Outcome BlockReader::Open(const std::string& path, bool direct) {
    Close();
    IoPool::Beat();
    direct_ = direct;
    file_ = OpenFile(*files_, path, O_RDONLY, &direct_);
    if (file_ < 0) return Fail(file_);
    IoPool::Beat();
    const int result = Uninterrupted([&] { return files_->FileStatus(file_, &info_); });
    if (result < 0) return Fail(result);
    return info_.size == block_format::FileBytes(shape_) ? Outcome::kMore : Outcome::kCorrupt;
}

ssize_t BlockReader::Fill(uint8_t* data, int64_t size) {
    int64_t filled = 0;
    while (filled < size) {
        IoPool::Beat();
        // Direct reads go in whole units, past the end of the file too.
        const int64_t wanted = direct_ ? block_format::AlignUp(size - filled) : size - filled;
        const ssize_t count = Uninterrupted([&] {
            return files_->Read(file_, data + filled, static_cast<std::size_t>(wanted),
                                position_ + filled);
        });
        const bool refused = count == -EINVAL;
        const bool torn = count > 0 && count % block_format::kAlignment != 0 && filled + count < size;
        if (direct_ && (refused || torn)) {
            direct_ = false;
            if (const int result = files_->UseCache(file_); result < 0) return result;
            if (refused) continue;
        }
        if (count < 0) return count;
        if (count == 0) break;
        filled += count;
    }
    return static_cast<ssize_t>(std::min(filled, size));
}

Outcome BlockReader::Read(const Staging& staging, const Sink& sink) {
    const int64_t header_bytes = block_format::HeaderBytes(shape_);
    const int64_t size = std::min(staging.bytes, info_.size - position_);
    const ssize_t filled = Fill(staging.data, size);
    if (filled < 0) return Fail(filled);
    if (filled < size) return Outcome::kCorrupt;
    int64_t begin = 0;
    if (position_ == 0) {
        begin = header_bytes;
        if (!block_format::DecodeHeader(shape_, name_space_, key_, staging.data, checksums_)) {
            return Outcome::kCorrupt;
        }
    }
    position_ += size;
    return Consume(staging.data + begin, size - begin, sink);
}

Outcome BlockReader::ReadHeader(const Staging& staging) {
    const int64_t header_bytes = block_format::HeaderBytes(shape_);
    position_ = 0;
    const ssize_t filled = Fill(staging.data, header_bytes);
    if (filled < 0) return Fail(filled);
    const bool right =
        filled == header_bytes &&
        block_format::DecodeHeader(shape_, name_space_, key_, staging.data, checksums_);
    return right ? Outcome::kMore : Outcome::kCorrupt;
}

Outcome BlockReader::ReadLayer(int32_t layer, const Staging& staging, const Sink& sink) {
    const int64_t layer_bytes = shape_.layer_bytes();
    const int64_t begin = block_format::HeaderBytes(shape_) + layer * layer_bytes;
    const int64_t next = begin + piece_;
    position_ = direct_ ? next / block_format::kAlignment * block_format::kAlignment : next;
    const int64_t size = std::min(staging.bytes, begin + layer_bytes - position_);
    const ssize_t filled = Fill(staging.data, size);
    if (filled < 0) return Fail(filled);
    if (filled < size) return Outcome::kCorrupt;
    const int64_t before = next - position_;
    const int64_t count = size - before;
    if (!sink(piece_, staging.data + before, static_cast<std::size_t>(count), &crc_)) {
        return Outcome::kStopped;
    }
    piece_ += count;
    if (piece_ < layer_bytes) return Outcome::kMore;
    const bool right = crc_ == checksums_[static_cast<std::size_t>(layer)];
    piece_ = 0;
    crc_ = 0;
    return right ? Outcome::kDone : Outcome::kCorrupt;
}

Outcome BlockReader::Consume(const uint8_t* data, int64_t size, const Sink& sink) {
    const int64_t layer_bytes = shape_.layer_bytes();
    while (size > 0) {
        const int64_t count = std::min(size, layer_bytes - piece_);
        if (!sink(layer_ * layer_bytes + piece_, data, static_cast<std::size_t>(count), &crc_)) {
            return Outcome::kStopped;
        }
        data += count;
        size -= count;
        piece_ += count;
        if (piece_ < layer_bytes) continue;
        if (crc_ != checksums_[static_cast<std::size_t>(layer_)]) return Outcome::kCorrupt;
        ++layer_;
        piece_ = 0;
        crc_ = 0;
    }
    return layer_ == shape_.num_layers ? Outcome::kDone : Outcome::kMore;
}

}  // namespace ucm
