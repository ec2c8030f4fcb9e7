#include "comm/shared_region.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace ucm {
namespace {

static_assert(std::atomic<uint32_t>::is_always_lock_free &&
              std::atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(Heartbeat) == kCacheLine && sizeof(RankState) == kCacheLine);

constexpr std::size_t kHeaderBytes = kMaxRanks * (sizeof(Heartbeat) + sizeof(RankState));

Status Failed(const char* what, int error) {
    return {StatusCode::kIo, std::string("cannot ") + what +
                                 " the memory that workers share: " + std::strerror(error)};
}

}  // namespace

Status SharedRegion::Map(int descriptor, int world_size, std::size_t slot_bytes,
                         std::unique_ptr<SharedRegion>* region) {
    if (world_size < 1 || world_size > kMaxRanks) {
        return Status::InvalidArgument("worldSize is " + std::to_string(world_size) +
                                       ", expected 1 to " + std::to_string(kMaxRanks));
    }
    slot_bytes = (slot_bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    const std::size_t ranks = static_cast<std::size_t>(world_size);
    const std::size_t bytes = kHeaderBytes + (world_size > 1 ? 2 * ranks * slot_bytes : 0);
    // Real memory now, so that a full /dev/shm is an error here and no SIGBUS later.
    const int error = posix_fallocate(descriptor, 0, static_cast<off_t>(bytes));
    if (error == ENOSPC) {
        return {StatusCode::kOutOfMemory,
                "Workers need " + std::to_string((bytes + 1023) / 1024) +
                    " KiB of shared memory, and /dev/shm has no room for them. Make it larger (of a "
                    "container: --shm-size), or lower --tensor-parallel-size."};
    }
    if (error != 0) return Failed("allocate", error);
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (data == MAP_FAILED) return Failed("map", errno);
    region->reset(new SharedRegion(static_cast<uint8_t*>(data), bytes, world_size, slot_bytes));
    return Status::Ok();
}

SharedRegion::~SharedRegion() { munmap(data_, bytes_); }

uint8_t* SharedRegion::slot(unsigned parity, int rank) const {
    const std::size_t index =
        parity * static_cast<std::size_t>(world_size_) + static_cast<std::size_t>(rank);
    return data_ + kHeaderBytes + index * slot_bytes_;
}

}  // namespace ucm
