#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ucm {

/** What the store asks of a file's inode. Times are nanoseconds since 1970, by the file system's clock. */
struct FileInfo {
    uint64_t inode = 0;
    uint64_t links = 0;
    int64_t size = 0;
    /** What the file really occupies. */
    int64_t allocated = 0;
    int64_t read_time = 0;
    int64_t write_time = 0;
    bool is_directory = false;
};

/**
 * Every call that the store makes to a file system, so that tests can fail, tear, delay and replay
 * them. Calls return a negative errno on failure, as the kernel does, and are not retried here.
 */
class FileSystem {
  public:
    virtual ~FileSystem() = default;

    /** The kernel's. */
    static const std::shared_ptr<FileSystem>& Posix();

    virtual int Open(const std::string& path, int flags, int mode) = 0;
    virtual int Close(int file) = 0;
    virtual ssize_t Read(int file, void* data, std::size_t size, int64_t offset) = 0;
    virtual ssize_t Write(int file, const void* data, std::size_t size, int64_t offset) = 0;
    virtual int SyncData(int file) = 0;
    virtual int Truncate(int file, int64_t size) = 0;
    /** Takes O_DIRECT away. */
    virtual int UseCache(int file) = 0;
    virtual int FileStatus(int file, FileInfo* info) = 0;
    virtual int PathStatus(const std::string& path, FileInfo* info) = 0;
    /** Sets the time of last reading, which mounts with noatime or relatime do not keep. */
    virtual int TouchRead(int file) = 0;
    /** Sets the time of last writing. */
    virtual int TouchWritten(const std::string& path) = 0;
    virtual int Rename(const std::string& from, const std::string& to) = 0;
    virtual int Link(const std::string& from, const std::string& to) = 0;
    virtual int Unlink(const std::string& path) = 0;
    virtual int MakeDirectory(const std::string& path) = 0;
    virtual int RemoveDirectory(const std::string& path) = 0;
    /** Names in a directory, without . and .. */
    virtual int List(const std::string& path, std::vector<std::string>* names) = 0;
};

/** Interruptions in a row after which a call is taken for broken. */
constexpr int kMaxInterruptions = 100;

/** `call`, a call of a FileSystem, until it is not interrupted. */
template <typename Call>
auto Uninterrupted(Call call) {
    auto result = call();
    for (int i = 0; result == -EINTR && i < kMaxInterruptions; ++i) result = call();
    return result;
}

}  // namespace ucm
