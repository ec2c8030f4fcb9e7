#include "test/store_file_systems.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ucm::test {

#define UCM_PASS(call, path)                                        \
    if (const int64_t verdict = Ask(call, path); verdict < 0) {     \
        return static_cast<int>(verdict);                           \
    }

int HookedFileSystem::Open(const std::string& path, int flags, int mode) {
    UCM_PASS(Call::kOpen, path);
    return inner_->Open(path, flags, mode);
}
int HookedFileSystem::Close(int file) {
    // A failed close has closed the file nevertheless.
    const int64_t verdict = Ask(Call::kClose, "");
    const int result = inner_->Close(file);
    return verdict < 0 ? static_cast<int>(verdict) : result;
}
ssize_t HookedFileSystem::Read(int file, void* data, std::size_t size, int64_t offset) {
    const int64_t verdict = Ask(Call::kRead, "", size);
    if (verdict < 0) return verdict;
    const auto most = verdict > 0 ? std::min(size, static_cast<std::size_t>(verdict)) : size;
    return inner_->Read(file, data, most, offset);
}
ssize_t HookedFileSystem::Write(int file, const void* data, std::size_t size, int64_t offset) {
    const int64_t verdict = Ask(Call::kWrite, "", size);
    if (verdict < 0) return verdict;
    const auto most = verdict > 0 ? std::min(size, static_cast<std::size_t>(verdict)) : size;
    return inner_->Write(file, data, most, offset);
}
int HookedFileSystem::SyncData(int file) {
    UCM_PASS(Call::kSyncData, "");
    return inner_->SyncData(file);
}
int HookedFileSystem::Truncate(int file, int64_t size) {
    UCM_PASS(Call::kTruncate, "");
    return inner_->Truncate(file, size);
}
int HookedFileSystem::UseCache(int file) {
    UCM_PASS(Call::kUseCache, "");
    return inner_->UseCache(file);
}
int HookedFileSystem::FileStatus(int file, FileInfo* info) {
    UCM_PASS(Call::kFileStatus, "");
    return inner_->FileStatus(file, info);
}
int HookedFileSystem::PathStatus(const std::string& path, FileInfo* info) {
    UCM_PASS(Call::kPathStatus, path);
    return inner_->PathStatus(path, info);
}
int HookedFileSystem::TouchRead(int file) {
    UCM_PASS(Call::kTouchRead, "");
    return inner_->TouchRead(file);
}
int HookedFileSystem::TouchWritten(const std::string& path) {
    UCM_PASS(Call::kTouchWritten, path);
    return inner_->TouchWritten(path);
}
int HookedFileSystem::Rename(const std::string& from, const std::string& to) {
    UCM_PASS(Call::kRename, to);
    return inner_->Rename(from, to);
}
int HookedFileSystem::Link(const std::string& from, const std::string& to) {
    UCM_PASS(Call::kLink, to);
    return inner_->Link(from, to);
}
int HookedFileSystem::Unlink(const std::string& path) {
    UCM_PASS(Call::kUnlink, path);
    return inner_->Unlink(path);
}
int HookedFileSystem::MakeDirectory(const std::string& path) {
    UCM_PASS(Call::kMakeDirectory, path);
    return inner_->MakeDirectory(path);
}
int HookedFileSystem::RemoveDirectory(const std::string& path) {
    UCM_PASS(Call::kRemoveDirectory, path);
    return inner_->RemoveDirectory(path);
}
int HookedFileSystem::List(const std::string& path, std::vector<std::string>* names) {
    UCM_PASS(Call::kList, path);
    return inner_->List(path, names);
}
#undef UCM_PASS

MemoryFileSystem::MemoryFileSystem(Tree tree) : tree_(std::move(tree)) {
    for (const auto& [path, inode] : tree_.files) {
        next_inode_ = std::max(next_inode_, inode->number + 1);
    }
}

std::vector<MemoryFileSystem::Change> MemoryFileSystem::TakeLog() {
    const std::lock_guard lock(mutex_);
    return std::exchange(log_, {});
}

bool MemoryFileSystem::HasParent(const std::string& path) const {
    return tree_.directories.contains(path.substr(0, path.rfind('/')));
}

std::shared_ptr<MemoryFileSystem::Inode> MemoryFileSystem::InodeOf(int file) {
    const auto found = open_.find(file);
    return found == open_.end() ? nullptr : found->second;
}

std::vector<std::string> MemoryFileSystem::Paths() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> paths;
    for (const auto& [path, inode] : tree_.files) paths.push_back(path);
    return paths;
}

int MemoryFileSystem::Open(const std::string& path, int flags, int) {
    const std::lock_guard lock(mutex_);
    if (!HasParent(path)) return -ENOENT;
    auto found = tree_.files.find(path);
    if (found != tree_.files.end() && (flags & O_EXCL) != 0) return -EEXIST;
    if (found == tree_.files.end()) {
        if ((flags & O_CREAT) == 0) return -ENOENT;
        auto inode = std::make_shared<Inode>();
        inode->number = next_inode_++;
        inode->links = 1;
        inode->write_time = inode->read_time = Tick();
        log_.push_back({.kind = Change::kCreate, .inode = inode->number, .path = path});
        found = tree_.files.emplace(path, std::move(inode)).first;
    }
    if ((flags & O_TRUNC) != 0) {
        found->second->content.clear();
        log_.push_back({.kind = Change::kTruncate, .inode = found->second->number});
    }
    open_[next_file_] = found->second;
    return next_file_++;
}

int MemoryFileSystem::Close(int file) {
    const std::lock_guard lock(mutex_);
    return open_.erase(file) == 1 ? 0 : -EBADF;
}

ssize_t MemoryFileSystem::Read(int file, void* data, std::size_t size, int64_t offset) {
    const std::lock_guard lock(mutex_);
    const auto inode = InodeOf(file);
    if (inode == nullptr) return -EBADF;
    const auto length = static_cast<int64_t>(inode->content.size());
    const auto count = std::clamp<int64_t>(length - offset, 0, static_cast<int64_t>(size));
    std::memcpy(data, inode->content.data() + std::min(offset, length),
                static_cast<std::size_t>(count));
    return count;
}

ssize_t MemoryFileSystem::Write(int file, const void* data, std::size_t size, int64_t offset) {
    const std::lock_guard lock(mutex_);
    const auto inode = InodeOf(file);
    if (inode == nullptr) return -EBADF;
    const auto end = static_cast<std::size_t>(offset) + size;
    if (inode->content.size() < end) inode->content.resize(end);
    std::memcpy(inode->content.data() + offset, data, size);
    inode->write_time = Tick();
    log_.push_back({.kind = Change::kWrite,
                    .inode = inode->number,
                    .offset = offset,
                    .data = std::string(static_cast<const char*>(data), size)});
    return static_cast<ssize_t>(size);
}

int MemoryFileSystem::SyncData(int file) {
    const std::lock_guard lock(mutex_);
    const auto inode = InodeOf(file);
    if (inode == nullptr) return -EBADF;
    log_.push_back({.kind = Change::kSync, .inode = inode->number});
    return 0;
}

int MemoryFileSystem::Truncate(int file, int64_t size) {
    const std::lock_guard lock(mutex_);
    const auto inode = InodeOf(file);
    if (inode == nullptr) return -EBADF;
    inode->content.resize(static_cast<std::size_t>(size));
    log_.push_back({.kind = Change::kTruncate, .inode = inode->number, .offset = size});
    return 0;
}

void MemoryFileSystem::Describe(const Inode& inode, FileInfo* info) {
    *info = {};
    info->inode = inode.number;
    info->links = static_cast<uint64_t>(inode.links);
    info->size = info->allocated = static_cast<int64_t>(inode.content.size());
    info->read_time = inode.read_time;
    info->write_time = inode.write_time;
}

int MemoryFileSystem::FileStatus(int file, FileInfo* info) {
    const std::lock_guard lock(mutex_);
    const auto inode = InodeOf(file);
    if (inode == nullptr) return -EBADF;
    Describe(*inode, info);
    return 0;
}

int MemoryFileSystem::PathStatus(const std::string& path, FileInfo* info) {
    const std::lock_guard lock(mutex_);
    const std::string plain = path.ends_with("/.") ? path.substr(0, path.size() - 2) : path;
    if (tree_.directories.contains(plain)) {
        *info = {};
        info->is_directory = true;
        return 0;
    }
    const auto found = tree_.files.find(plain);
    if (found == tree_.files.end()) return -ENOENT;
    Describe(*found->second, info);
    return 0;
}

int MemoryFileSystem::TouchRead(int file) {
    const std::lock_guard lock(mutex_);
    const auto inode = InodeOf(file);
    if (inode == nullptr) return -EBADF;
    inode->read_time = Tick();
    return 0;
}

int MemoryFileSystem::TouchWritten(const std::string& path) {
    const std::lock_guard lock(mutex_);
    const auto found = tree_.files.find(path);
    if (found == tree_.files.end()) return -ENOENT;
    found->second->write_time = Tick();
    return 0;
}

int MemoryFileSystem::Rename(const std::string& from, const std::string& to) {
    const std::lock_guard lock(mutex_);
    const auto found = tree_.files.find(from);
    if (found == tree_.files.end() || !HasParent(to)) return -ENOENT;
    const std::shared_ptr<Inode> inode = found->second;
    tree_.files.erase(found);
    const auto replaced = tree_.files.find(to);
    if (replaced != tree_.files.end()) --replaced->second->links;
    tree_.files[to] = inode;
    log_.push_back({.kind = Change::kRename, .path = from, .target = to});
    return 0;
}

int MemoryFileSystem::Link(const std::string& from, const std::string& to) {
    const std::lock_guard lock(mutex_);
    const auto found = tree_.files.find(from);
    if (found == tree_.files.end() || !HasParent(to)) return -ENOENT;
    if (tree_.files.contains(to)) return -EEXIST;
    tree_.files[to] = found->second;
    ++found->second->links;
    log_.push_back({.kind = Change::kLink, .path = from, .target = to});
    return 0;
}

int MemoryFileSystem::Unlink(const std::string& path) {
    const std::lock_guard lock(mutex_);
    const auto found = tree_.files.find(path);
    if (found == tree_.files.end()) return -ENOENT;
    --found->second->links;
    tree_.files.erase(found);
    log_.push_back({.kind = Change::kUnlink, .path = path});
    return 0;
}

int MemoryFileSystem::MakeDirectory(const std::string& path) {
    const std::lock_guard lock(mutex_);
    if (!HasParent(path)) return -ENOENT;
    return tree_.directories.insert(path).second ? 0 : -EEXIST;
}

int MemoryFileSystem::RemoveDirectory(const std::string& path) {
    const std::lock_guard lock(mutex_);
    return tree_.directories.erase(path) == 1 ? 0 : -ENOENT;
}

int MemoryFileSystem::List(const std::string& path, std::vector<std::string>* names) {
    const std::lock_guard lock(mutex_);
    if (!tree_.directories.contains(path)) return -ENOENT;
    const std::string prefix = path + "/";
    const auto add = [&](const std::string& child) {
        const std::string name = child.substr(prefix.size());
        if (name.find('/') == std::string::npos) names->push_back(name);
    };
    for (auto it = tree_.files.lower_bound(prefix);
         it != tree_.files.end() && it->first.starts_with(prefix); ++it) {
        add(it->first);
    }
    for (auto it = tree_.directories.lower_bound(prefix);
         it != tree_.directories.end() && it->starts_with(prefix); ++it) {
        add(*it);
    }
    return 0;
}

}  // namespace ucm::test
