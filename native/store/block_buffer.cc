#include "store/block_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "store/block_format.h"
#include "store/crc32c.h"

namespace ucm {
namespace {

constexpr int64_t kCacheLine = 64;
/** Of a layer: from there on its own copy fetches ahead. */
constexpr int64_t kPrefetched = 1024;

}  // namespace

BlockBuffer::BlockBuffer(std::shared_ptr<BlockBufferPool> pool, uint8_t* data)
    : pool_(std::move(pool)),
      data_(data),
      checksums_(static_cast<std::size_t>(pool_->shape().num_layers)) {}

BlockBuffer::~BlockBuffer() { pool_->Release(data_); }

int64_t BlockBuffer::bytes() const { return pool_->shape().bytes_per_block; }

void BlockBuffer::Fill(const uint8_t* block) {
    const auto bytes = static_cast<std::size_t>(pool_->shape().layer_bytes());
    for (std::size_t layer = 0; layer < checksums_.size(); ++layer) {
        checksums_[layer] =
            CopyWithCrc32c(data_ + layer * bytes, block + layer * bytes, bytes);
    }
}

bool BlockBuffer::CopyTo(uint8_t* block) const {
    const int64_t bytes = pool_->shape().layer_bytes();
    for (int32_t layer = 0; layer < pool_->shape().num_layers; ++layer) {
        if (!CopyLayerTo(layer, block + layer * bytes)) return false;
    }
    return true;
}

bool BlockBuffer::CopyLayerTo(int32_t layer, uint8_t* piece) const {
    const int64_t bytes = pool_->shape().layer_bytes();
    const uint32_t crc =
        CopyWithCrc32c(piece, data_ + layer * bytes, static_cast<std::size_t>(bytes));
    return crc == checksums_[static_cast<std::size_t>(layer)];
}

void BlockBuffer::PrefetchLayer(int32_t layer) const {
    const int64_t bytes = pool_->shape().layer_bytes();
    const uint8_t* start = data_ + layer * bytes;
    for (int64_t at = 0; at < std::min(bytes, kPrefetched); at += kCacheLine) {
        __builtin_prefetch(start + at, 0, 2);
    }
}

BlockBufferPool::BlockBufferPool(const BlockShape& shape, int64_t count, uint8_t* data)
    : shape_(shape), count_(count), data_(data) {}

BlockBufferPool::~BlockBufferPool() {
    munmap(data_, static_cast<std::size_t>(count_ * stride()));
}

int64_t BlockBufferPool::stride() const { return block_format::AlignUp(shape_.bytes_per_block); }

Status BlockBufferPool::Create(const BlockShape& shape, int64_t capacity_bytes, const char* name,
                               std::shared_ptr<BlockBufferPool>* pool) {
    const int64_t stride = block_format::AlignUp(shape.bytes_per_block);
    const int64_t count = capacity_bytes / stride;
    if (count < 1) {
        return Status::InvalidArgument(std::string(name) + " is " + std::to_string(capacity_bytes) +
                                       ", which cannot hold one block; give at least " +
                                       std::to_string(stride) + " bytes");
    }
    void* data = mmap(nullptr, static_cast<std::size_t>(count * stride), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
        return {StatusCode::kOutOfMemory, "cannot reserve " + std::to_string(count * stride) +
                                              " bytes for " + name + ": " + std::strerror(errno) +
                                              "; give a smaller one"};
    }
    // Only advice: without huge pages everything works, with more TLB misses.
    madvise(data, static_cast<std::size_t>(count * stride), MADV_HUGEPAGE);
    pool->reset(new BlockBufferPool(shape, count, static_cast<uint8_t*>(data)));
    return Status::Ok();
}

std::shared_ptr<BlockBuffer> BlockBufferPool::TryAcquire() {
    uint8_t* data = nullptr;
    {
        const std::lock_guard lock(mutex_);
        if (!free_.empty()) {
            data = free_.back();
            free_.pop_back();
        } else if (fresh_ < count_) {
            data = data_ + fresh_++ * stride();
        } else {
            return nullptr;
        }
    }
    return std::make_shared<BlockBuffer>(shared_from_this(), data);
}

void BlockBufferPool::Release(uint8_t* data) {
    const std::lock_guard lock(mutex_);
    free_.push_back(data);
}

int64_t BlockBufferPool::in_use() const {
    const std::lock_guard lock(mutex_);
    return fresh_ - static_cast<int64_t>(free_.size());
}

}  // namespace ucm
