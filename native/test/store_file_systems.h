#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "store/file_system.h"

namespace ucm::test {

/** The calls of a FileSystem. */
enum class Call : uint8_t {
    kOpen, kClose, kRead, kWrite, kSyncData, kTruncate, kUseCache, kFileStatus, kPathStatus,
    kTouchRead, kTouchWritten, kRename, kLink, kUnlink, kMakeDirectory, kRemoveDirectory, kList
};

/**
 * Another file system with something done before every call, which may fail, delay or shorten it: a
 * hook returns 0 to let it through, a negative errno to fail it, or for reads and writes a positive
 * size to do no more than that.
 */
class HookedFileSystem final : public FileSystem {
  public:
    using Hook = std::function<int64_t(Call call, const std::string& path, std::size_t size)>;

    explicit HookedFileSystem(std::shared_ptr<FileSystem> inner) : inner_(std::move(inner)) {}
    /** Not while calls are made. */
    void SetHook(Hook hook) { hook_ = std::move(hook); }

    int Open(const std::string& path, int flags, int mode) override;
    int Close(int file) override;
    ssize_t Read(int file, void* data, std::size_t size, int64_t offset) override;
    ssize_t Write(int file, const void* data, std::size_t size, int64_t offset) override;
    int SyncData(int file) override;
    int Truncate(int file, int64_t size) override;
    int UseCache(int file) override;
    int FileStatus(int file, FileInfo* info) override;
    int PathStatus(const std::string& path, FileInfo* info) override;
    int TouchRead(int file) override;
    int TouchWritten(const std::string& path) override;
    int Rename(const std::string& from, const std::string& to) override;
    int Link(const std::string& from, const std::string& to) override;
    int Unlink(const std::string& path) override;
    int MakeDirectory(const std::string& path) override;
    int RemoveDirectory(const std::string& path) override;
    int List(const std::string& path, std::vector<std::string>* names) override;

  private:
    int64_t Ask(Call call, const std::string& path, std::size_t size = 0) {
        return hook_ ? hook_(call, path, size) : 0;
    }

    const std::shared_ptr<FileSystem> inner_;
    Hook hook_;
};

/** A file system in memory that records every change, so that a power cut can be replayed. */
class MemoryFileSystem final : public FileSystem {
  public:
    struct Inode {
        std::string content;
        int64_t links = 0;
        int64_t read_time = 0;
        int64_t write_time = 0;
        uint64_t number = 0;
    };
    struct Change {
        enum Kind { kCreate, kWrite, kTruncate, kSync, kRename, kLink, kUnlink } kind;
        uint64_t inode = 0;
        std::string path = {};
        std::string target = {};
        int64_t offset = 0;
        std::string data = {};
    };
    /** Path to inode, and all directories. */
    struct Tree {
        std::map<std::string, std::shared_ptr<Inode>> files;
        std::set<std::string> directories;
    };

    MemoryFileSystem() { tree_.directories.insert(""); }
    explicit MemoryFileSystem(Tree tree);

    /** Changes since the last call; directories appear in the tree alone. */
    std::vector<Change> TakeLog();
    /** The paths of all files. */
    std::vector<std::string> Paths();
    /** Direct access for tests that run on one thread. */
    Tree& tree() { return tree_; }
    void AdvanceClock(int64_t nanoseconds) { clock_ += nanoseconds; }

    int Open(const std::string& path, int flags, int mode) override;
    int Close(int file) override;
    ssize_t Read(int file, void* data, std::size_t size, int64_t offset) override;
    ssize_t Write(int file, const void* data, std::size_t size, int64_t offset) override;
    int SyncData(int file) override;
    int Truncate(int file, int64_t size) override;
    int UseCache(int) override { return 0; }
    int FileStatus(int file, FileInfo* info) override;
    int PathStatus(const std::string& path, FileInfo* info) override;
    int TouchRead(int file) override;
    int TouchWritten(const std::string& path) override;
    int Rename(const std::string& from, const std::string& to) override;
    int Link(const std::string& from, const std::string& to) override;
    int Unlink(const std::string& path) override;
    int MakeDirectory(const std::string& path) override;
    int RemoveDirectory(const std::string& path) override;
    int List(const std::string& path, std::vector<std::string>* names) override;

  private:
    bool HasParent(const std::string& path) const;
    std::shared_ptr<Inode> InodeOf(int file);
    static void Describe(const Inode& inode, FileInfo* info);
    int64_t Tick() { return ++clock_; }

    std::mutex mutex_;
    Tree tree_;
    std::map<int, std::shared_ptr<Inode>> open_;
    std::vector<Change> log_;
    int next_file_ = 3;
    uint64_t next_inode_ = 1;
    int64_t clock_ = int64_t{1} << 60;
};

/** A door that calls wait at while it is shut: a mount that hangs. */
class Gate {
  public:
    void Shut() {
        const std::lock_guard lock(mutex_);
        open_ = false;
    }
    void Open() {
        {
            const std::lock_guard lock(mutex_);
            open_ = true;
        }
        opened_.notify_all();
    }
    void Pass() {
        std::unique_lock lock(mutex_);
        opened_.wait(lock, [&] { return open_; });
    }

  private:
    std::mutex mutex_;
    std::condition_variable opened_;
    bool open_ = true;
};

}  // namespace ucm::test
