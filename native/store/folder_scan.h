#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/file_system.h"
#include "store/store_layout.h"

namespace ucm {

/** Everything in one backend folder, as it was found: files may come and go during the walk. */
struct FolderScan {
    struct Block {
        BlockKey key;
        /** Index into namespaces. */
        uint32_t name_space;
        /** A second link is a pin. */
        bool pinned;
        int64_t bytes;
        int64_t written_at;
        /** The later of its last read and its writing. */
        int64_t used_at;
    };
    struct Loose {
        std::string path;
        std::string name;
        int64_t bytes;
        int64_t written_at;
    };

    std::vector<std::string> namespaces;
    std::vector<Block> blocks;
    /** Files among the blocks that are none, or not where they belong; mostly being written. */
    std::vector<Loose> temps;
    std::vector<Loose> quarantined;
    /** Links of pinned blocks; `bytes` only where the block itself is gone. */
    std::vector<Loose> pins;
    int64_t used_bytes = 0;

    std::string PathOf(const StoreLayout& layout, const Block& block) const;
};

/**
 * Removes the block at `path` unless it was pinned or used since a walk that found `used_at`. 0, -EBUSY
 * when it was, or another negative errno.
 */
int RemoveUnused(FileSystem& files, const std::string& path, int64_t used_at);

/** Walks the folder. What cannot be read is left out. */
FolderScan ScanFolder(FileSystem& files, const StoreLayout& layout);

}  // namespace ucm
