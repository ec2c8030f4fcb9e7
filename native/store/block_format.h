#pragma once

#include <cstdint>
#include <span>

#include "store/block_key.h"

namespace ucm {

/**
 * Store file, version 1, little-endian:
 *
 *     0   8  magic "UCMKVBLK"
 *     8   4  version, 1
 *    12   4  CRC-32C of the whole header with this field zero
 *    16  32  key
 *    48  32  namespace digest
 *    80   8  payload length in bytes
 *    88   4  block size in tokens
 *    92   4  layer count L
 *    96 4*L  CRC-32C of each layer's piece of the payload
 *     …      zero up to a multiple of 4096; then the payload, and nothing after it
 *
 * The payload starts at a multiple of 4096, so that direct I/O can move it.
 */
namespace block_format {

constexpr int64_t kAlignment = 4096;

constexpr int64_t AlignUp(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t HeaderBytes(const BlockShape& shape);
int64_t FileBytes(const BlockShape& shape);

/** Writes HeaderBytes(shape) bytes. `checksums` has one CRC-32C per layer. */
void EncodeHeader(const BlockShape& shape, const Digest& name_space, const BlockKey& key,
                  std::span<const uint32_t> checksums, uint8_t* header);

/**
 * Copies the checksums out of a header of HeaderBytes(shape) bytes. False unless every byte of it is
 * what EncodeHeader would have written for this block and these checksums.
 */
bool DecodeHeader(const BlockShape& shape, const Digest& name_space, const BlockKey& key,
                  const uint8_t* header, std::span<uint32_t> checksums);

/** What a file says of itself; for tools that do not know the block's shape. */
struct HeaderFields {
    uint32_t version;
    Digest key;
    Digest name_space;
    BlockShape shape;
};

/** Reads the fixed part of a header. False when it is no header of this version. */
bool ReadFields(std::span<const uint8_t> header, HeaderFields* fields);

}  // namespace block_format
}  // namespace ucm
