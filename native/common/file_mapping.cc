#include "common/file_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace ucm {
namespace {

Status IoError(const std::string& path, const char* reason) {
    return {StatusCode::kIo, "cannot map '" + path + "': " + reason};
}

class ScopedDescriptor {
  public:
    explicit ScopedDescriptor(int descriptor) : descriptor_(descriptor) {}
    ~ScopedDescriptor() {
        if (descriptor_ >= 0) close(descriptor_);
    }
    ScopedDescriptor(const ScopedDescriptor&) = delete;
    ScopedDescriptor& operator=(const ScopedDescriptor&) = delete;
    int get() const { return descriptor_; }

  private:
    int descriptor_;
};

}  // namespace

Status FileMapping::Open(const std::string& path, std::unique_ptr<FileMapping>* mapping) {
    const ScopedDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) return IoError(path, std::strerror(errno));
    struct stat info{};
    if (fstat(file.get(), &info) != 0) return IoError(path, std::strerror(errno));
    if (!S_ISREG(info.st_mode)) return IoError(path, "not a regular file");
    void* data = nullptr;
    if (info.st_size > 0) {
        data = mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_SHARED,
                    file.get(), 0);
        if (data == MAP_FAILED) return IoError(path, std::strerror(errno));
    }
    mapping->reset(new FileMapping(static_cast<const uint8_t*>(data), info.st_size));
    return Status::Ok();
}

FileMapping::~FileMapping() {
    if (data_ == nullptr) return;
    munmap(const_cast<uint8_t*>(data_), static_cast<std::size_t>(byte_length_));
}

}  // namespace ucm
