#include "store/block_format.h"

#include <bit>
#include <cstring>
#include <vector>

#include "store/crc32c.h"

namespace ucm::block_format {
namespace {

static_assert(std::endian::native == std::endian::little, "the header is written as it is in memory");

/** The fixed part as it lies in the file; checksums follow. */
struct FixedHeader {
    char magic[8];
    uint32_t version;
    uint32_t header_crc;
    uint8_t key[32];
    uint8_t name_space[32];
    uint64_t payload_bytes;
    uint32_t block_size;
    uint32_t num_layers;
};
static_assert(sizeof(FixedHeader) == 96);

constexpr char kMagic[8] = {'U', 'C', 'M', 'K', 'V', 'B', 'L', 'K'};
constexpr uint32_t kVersion = 1;

}  // namespace

int64_t HeaderBytes(const BlockShape& shape) {
    return AlignUp(static_cast<int64_t>(sizeof(FixedHeader)) +
                   static_cast<int64_t>(sizeof(uint32_t)) * shape.num_layers);
}

int64_t FileBytes(const BlockShape& shape) { return HeaderBytes(shape) + shape.bytes_per_block; }

void EncodeHeader(const BlockShape& shape, const Digest& name_space, const BlockKey& key,
                  std::span<const uint32_t> checksums, uint8_t* header) {
    const auto size = static_cast<std::size_t>(HeaderBytes(shape));
    std::memset(header, 0, size);
    FixedHeader fixed{};
    std::memcpy(fixed.magic, kMagic, sizeof(kMagic));
    fixed.version = kVersion;
    std::memcpy(fixed.key, key.bytes.data(), sizeof(fixed.key));
    std::memcpy(fixed.name_space, name_space.bytes.data(), sizeof(fixed.name_space));
    fixed.payload_bytes = static_cast<uint64_t>(shape.bytes_per_block);
    fixed.block_size = static_cast<uint32_t>(shape.block_size);
    fixed.num_layers = static_cast<uint32_t>(shape.num_layers);
    std::memcpy(header, &fixed, sizeof(fixed));
    std::memcpy(header + sizeof(fixed), checksums.data(), checksums.size_bytes());
    fixed.header_crc = Crc32c(header, size);
    std::memcpy(header, &fixed, sizeof(fixed));
}

bool DecodeHeader(const BlockShape& shape, const Digest& name_space, const BlockKey& key,
                  const uint8_t* header, std::span<uint32_t> checksums) {
    std::memcpy(checksums.data(), header + sizeof(FixedHeader), checksums.size_bytes());
    std::vector<uint8_t> expected(static_cast<std::size_t>(HeaderBytes(shape)));
    EncodeHeader(shape, name_space, key, checksums, expected.data());
    return std::memcmp(expected.data(), header, expected.size()) == 0;
}

bool ReadFields(std::span<const uint8_t> header, HeaderFields* fields) {
    FixedHeader fixed;
    if (header.size() < sizeof(fixed)) return false;
    std::memcpy(&fixed, header.data(), sizeof(fixed));
    if (std::memcmp(fixed.magic, kMagic, sizeof(kMagic)) != 0 || fixed.version != kVersion) {
        return false;
    }
    fields->version = fixed.version;
    fields->key = Digest::From(fixed.key);
    fields->name_space = Digest::From(fixed.name_space);
    fields->shape = {.bytes_per_block = static_cast<int64_t>(fixed.payload_bytes),
                     .num_layers = static_cast<int32_t>(fixed.num_layers),
                     .block_size = static_cast<int32_t>(fixed.block_size)};
    return fixed.num_layers > 0 && fields->shape.bytes_per_block > 0;
}

}  // namespace ucm::block_format
