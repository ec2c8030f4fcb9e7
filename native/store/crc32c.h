#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "store/crc32c_kernels.h"

namespace ucm {

/** CRC-32C (Castagnoli; RFC 3720, B.4) of `size` bytes; `crc` is that of the bytes before them. */
uint32_t Crc32c(const void* data, std::size_t size, uint32_t crc = 0);

/** The same while copying the bytes to `target`, which does not overlap: little dearer than a copy. */
uint32_t CopyWithCrc32c(void* target, const void* data, std::size_t size, uint32_t crc = 0);

namespace crc32c {

/** The implementations that this machine can run, best first. */
const std::vector<const Kernels*>& AvailableKernels();

}  // namespace crc32c
}  // namespace ucm
