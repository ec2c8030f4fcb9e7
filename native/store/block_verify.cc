#include "store/block_verify.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "common/aligned_buffer.h"
#include "store/crc32c.h"

namespace ucm {
namespace {

using Outcome = BlockReader::Outcome;

constexpr int64_t kPiece = 1 << 20;

Outcome OutcomeOf(int result) {
    return result == -ENOENT || result == -ESTALE ? Outcome::kMissing : Outcome::kFailed;
}

/** The fixed part of the header, as far as it makes sense. */
Outcome ReadHeader(FileSystem& files, const std::string& path, BlockVerdict* verdict) {
    const int file = Uninterrupted([&] { return files.Open(path, O_RDONLY, 0); });
    if (file < 0) return OutcomeOf(file);
    std::vector<uint8_t> header(block_format::kAlignment);
    FileInfo info;
    const int status = files.FileStatus(file, &info);
    const ssize_t size =
        Uninterrupted([&] { return files.Read(file, header.data(), header.size(), 0); });
    files.Close(file);
    if (status < 0 || size < 0) return Outcome::kFailed;
    header.resize(static_cast<std::size_t>(size));
    verdict->file_bytes = info.size;
    verdict->inode = info.inode;
    const bool sound = block_format::ReadFields(header, &verdict->fields) &&
                       verdict->fields.shape.bytes_per_block % verdict->fields.shape.num_layers == 0 &&
                       block_format::FileBytes(verdict->fields.shape) == info.size;
    return sound ? Outcome::kMore : Outcome::kCorrupt;
}

}  // namespace

BlockVerdict VerifyBlockFile(const std::shared_ptr<FileSystem>& files, const std::string& path) {
    BlockVerdict verdict;
    verdict.outcome = ReadHeader(*files, path, &verdict);
    if (verdict.outcome != Outcome::kMore) return verdict;
    const block_format::HeaderFields& fields = verdict.fields;
    BlockReader reader(files, fields.shape, fields.name_space, fields.key);
    const int64_t bytes = std::max(kPiece, block_format::HeaderBytes(fields.shape));
    AlignedBuffer<uint8_t> memory;
    memory.Reserve(bytes);
    verdict.outcome = reader.Open(path, false);
    while (verdict.outcome == Outcome::kMore) {
        verdict.outcome = reader.Read(
            {memory.data(), bytes}, [](int64_t, const uint8_t* data, std::size_t size, uint32_t* crc) {
                *crc = Crc32c(data, size, *crc);
                return true;
            });
    }
    return verdict;
}

bool MoveToQuarantine(FileSystem& files, const StoreLayout& layout, const std::string& path,
                      uint64_t inode, const std::string& target) {
    FileInfo info;
    if (files.PathStatus(path, &info) < 0 || info.inode != inode) return false;
    int result = files.Rename(path, target);
    if (result == -ENOENT && files.MakeDirectory(layout.quarantine_folder()) == 0) {
        result = files.Rename(path, target);
    }
    return result == 0;
}

}  // namespace ucm
