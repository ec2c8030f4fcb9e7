#pragma once

#include <cstdint>
#include <span>

#include "common/status.h"

namespace ucm {

/**
 * Collective operations of the ranks of one model. Every rank calls the same operations in the same
 * order with the same sizes; a call returns when all ranks have called it. After an error a
 * communicator is of no more use: the ranks may be in different operations. One thread at a time.
 * Another transport, such as NCCL for GPUs, is another implementation of this class.
 */
class Communicator {
  public:
    virtual ~Communicator() = default;

    virtual int rank() const = 0;
    virtual int world_size() const = 0;

    /**
     * data[i] = the sum of data[i] of all ranks, added from rank 0 upwards: the same bits on every
     * rank and in every run.
     */
    virtual Status AllReduceSum(std::span<float> data) = 0;

    /**
     * Joins a matrix [rows, width] whose columns are spread over the ranks: rank r brings columns
     * ColumnShare(width, r), row-major. `out` receives the matrix; null on a rank that has no use
     * for it.
     */
    virtual Status GatherColumns(std::span<const float> part, int64_t rows, int64_t width,
                                 float* out) = 0;

    /** Copies rank 0's bytes to all. */
    virtual Status Broadcast(std::span<uint8_t> bytes) = 0;
};

struct ColumnRange {
    int64_t begin;
    int64_t end;
    int64_t width() const { return end - begin; }
};

/** Of `width` columns those of `rank`: ceil(width / world_size) each, the last ranks may have less. */
inline ColumnRange ColumnShare(int64_t width, int rank, int world_size) {
    const int64_t share = (width + world_size - 1) / world_size;
    const auto clamp = [&](int64_t column) { return column < width ? column : width; };
    return {clamp(share * rank), clamp(share * (rank + 1))};
}

}  // namespace ucm
