#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "store/block_file.h"
#include "store/store_layout.h"

namespace ucm {

/** What a block file turns out to be when every byte of it is checked against its header. */
struct BlockVerdict {
    /** kDone, kMissing, kCorrupt or kFailed. */
    BlockReader::Outcome outcome = BlockReader::Outcome::kMissing;
    /** What the header says; only of kDone. */
    block_format::HeaderFields fields{};
    int64_t file_bytes = 0;
    /** Of the file that was read. */
    uint64_t inode = 0;
};

/** For tools, which do not know what the file should be: the caller compares key and namespace. */
BlockVerdict VerifyBlockFile(const std::shared_ptr<FileSystem>& files, const std::string& path);

/**
 * Moves the damaged file at `path` to `target` in the quarantine, unless someone has put another one
 * in its place. True when it was moved.
 */
bool MoveToQuarantine(FileSystem& files, const StoreLayout& layout, const std::string& path,
                      uint64_t inode, const std::string& target);

}  // namespace ucm
