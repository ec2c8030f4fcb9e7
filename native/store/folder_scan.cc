#include "store/folder_scan.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "store/io_pool.h"

namespace ucm {
namespace {

std::vector<std::string> NamesIn(FileSystem& files, const std::string& folder) {
    std::vector<std::string> names;
    IoPool::Beat();
    files.List(folder, &names);
    return names;
}

bool StatusOf(FileSystem& files, const std::string& path, FileInfo* info) {
    IoPool::Beat();
    return files.PathStatus(path, info) == 0;
}

class Walk {
  public:
    Walk(FileSystem& files, const StoreLayout& layout) : files_(files), layout_(layout) {}

    FolderScan Run() {
        for (const std::string& name_space : NamesIn(files_, layout_.blocks_folder())) {
            scan_.namespaces.push_back(name_space);
            const std::string folder = layout_.blocks_folder() + "/" + name_space;
            for (const std::string& shard : NamesIn(files_, folder)) AddShard(folder, shard);
        }
        AddLoose(layout_.quarantine_folder(), &scan_.quarantined);
        for (const std::string& server : NamesIn(files_, layout_.servers_folder())) {
            AddPins(layout_.servers_folder() + "/" + server + "/pins");
        }
        return std::move(scan_);
    }

  private:
    void AddShard(const std::string& parent, const std::string& shard) {
        const std::string folder = parent + "/" + shard;
        for (const std::string& name : NamesIn(files_, folder)) {
            FileInfo info;
            if (!StatusOf(files_, folder + "/" + name, &info) || info.is_directory) continue;
            scan_.used_bytes += info.allocated;
            BlockKey key;
            if (StoreLayout::ParseBlockName(name, &key) && name.substr(0, 2) == shard) {
                const auto index = static_cast<uint32_t>(scan_.namespaces.size() - 1);
                scan_.blocks.push_back({key, index, info.links > 1, info.allocated, info.write_time,
                                        std::max(info.read_time, info.write_time)});
            } else {
                scan_.temps.push_back(
                    {folder + "/" + name, name, info.allocated, info.write_time});
            }
        }
    }

    void AddLoose(const std::string& folder, std::vector<FolderScan::Loose>* list) {
        for (const std::string& name : NamesIn(files_, folder)) {
            FileInfo info;
            if (!StatusOf(files_, folder + "/" + name, &info)) continue;
            scan_.used_bytes += info.allocated;
            list->push_back({folder + "/" + name, name, info.allocated, info.write_time});
        }
    }

    void AddPins(const std::string& folder) {
        for (const std::string& name : NamesIn(files_, folder)) {
            FileInfo info;
            if (!StatusOf(files_, folder + "/" + name, &info)) continue;
            const int64_t bytes = info.links > 1 ? 0 : info.allocated;
            scan_.used_bytes += bytes;
            scan_.pins.push_back({folder + "/" + name, name, bytes, info.write_time});
        }
    }

    FileSystem& files_;
    const StoreLayout& layout_;
    FolderScan scan_;
};

}  // namespace

std::string FolderScan::PathOf(const StoreLayout& layout, const Block& block) const {
    const std::string hex = block.key.Hex();
    return layout.blocks_folder() + "/" + namespaces[block.name_space] + "/" + hex.substr(0, 2) +
           "/" + hex + ".kv";
}

int RemoveUnused(FileSystem& files, const std::string& path, int64_t used_at) {
    IoPool::Beat();
    FileInfo info;
    const int status = files.PathStatus(path, &info);
    if (status < 0) return status;
    const bool changed = info.links > 1 || std::max(info.read_time, info.write_time) != used_at;
    return changed ? -EBUSY : files.Unlink(path);
}

FolderScan ScanFolder(FileSystem& files, const StoreLayout& layout) {
    return Walk(files, layout).Run();
}

}  // namespace ucm
