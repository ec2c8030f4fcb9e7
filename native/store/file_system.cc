#include "store/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace ucm {
namespace {

/** Units of st_blocks, whatever the file system's block size is. */
constexpr int64_t kStatBlock = 512;

int64_t Nanoseconds(const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

template <typename Result>
Result OrError(Result result) {
    return result < 0 ? static_cast<Result>(-errno) : result;
}

int Fill(int result, const struct stat& from, FileInfo* info) {
    if (result != 0) return -errno;
    info->inode = from.st_ino;
    info->links = from.st_nlink;
    info->size = from.st_size;
    info->allocated = std::max<int64_t>(from.st_size, from.st_blocks * kStatBlock);
    info->read_time = Nanoseconds(from.st_atim);
    info->write_time = Nanoseconds(from.st_mtim);
    info->is_directory = S_ISDIR(from.st_mode);
    return 0;
}

class PosixFileSystem final : public FileSystem {
  public:
    int Open(const std::string& path, int flags, int mode) override {
        return OrError(open(path.c_str(), flags | O_CLOEXEC, mode));
    }
    int Close(int file) override { return OrError(close(file)); }
    ssize_t Read(int file, void* data, std::size_t size, int64_t offset) override {
        return OrError(pread(file, data, size, offset));
    }
    ssize_t Write(int file, const void* data, std::size_t size, int64_t offset) override {
        return OrError(pwrite(file, data, size, offset));
    }
    int SyncData(int file) override { return OrError(fdatasync(file)); }
    int Truncate(int file, int64_t size) override { return OrError(ftruncate(file, size)); }
    int UseCache(int file) override {
        const int flags = fcntl(file, F_GETFL);
        return flags < 0 ? -errno : OrError(fcntl(file, F_SETFL, flags & ~O_DIRECT));
    }
    int FileStatus(int file, FileInfo* info) override {
        struct stat status {};
        return Fill(fstat(file, &status), status, info);
    }
    int PathStatus(const std::string& path, FileInfo* info) override {
        struct stat status {};
        return Fill(lstat(path.c_str(), &status), status, info);
    }
    int TouchRead(int file) override {
        const timespec times[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
        return OrError(futimens(file, times));
    }
    int TouchWritten(const std::string& path) override {
        const timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
        return OrError(utimensat(AT_FDCWD, path.c_str(), times, 0));
    }
    int Rename(const std::string& from, const std::string& to) override {
        return OrError(rename(from.c_str(), to.c_str()));
    }
    int Link(const std::string& from, const std::string& to) override {
        return OrError(link(from.c_str(), to.c_str()));
    }
    int Unlink(const std::string& path) override { return OrError(unlink(path.c_str())); }
    int MakeDirectory(const std::string& path) override {
        return OrError(mkdir(path.c_str(), 0777));
    }
    int RemoveDirectory(const std::string& path) override { return OrError(rmdir(path.c_str())); }
    int List(const std::string& path, std::vector<std::string>* names) override {
        DIR* directory = opendir(path.c_str());
        if (directory == nullptr) return -errno;
        errno = 0;
        while (const dirent* entry = readdir(directory)) {
            if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
                names->emplace_back(entry->d_name);
            }
            errno = 0;
        }
        const int error = errno;
        closedir(directory);
        return -error;
    }
};

}  // namespace

const std::shared_ptr<FileSystem>& FileSystem::Posix() {
    // Never destroyed: I/O threads may still be at work when the process ends.
    static const auto& posix = *new std::shared_ptr<FileSystem>(new PosixFileSystem());
    return posix;
}

}  // namespace ucm
