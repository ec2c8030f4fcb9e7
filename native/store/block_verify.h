#pragma once

#include <string>

#include "store/block_file.h"

namespace ucm {

/** What a block file turns out to be when every byte of it is checked against its header. */
struct BlockVerdict {
    /** kDone, kMissing, kCorrupt or kFailed. */
    BlockReader::Outcome outcome = BlockReader::Outcome::kMissing;
    /** What the header says; only of kDone. */
    block_format::HeaderFields fields{};
    int64_t file_bytes = 0;
};

/** For tools, which do not know what the file should be: the caller compares key and namespace. */
BlockVerdict VerifyBlockFile(const std::shared_ptr<FileSystem>& files, const std::string& path);

}  // namespace ucm
