#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

namespace ucm {

/** A SHA-256 digest: the chained hash of a block's tokens, or the digest of a namespace. */
struct Digest {
    std::array<uint8_t, 32> bytes{};

    bool operator==(const Digest&) const = default;

    static Digest From(const uint8_t* data) {
        Digest digest;
        std::memcpy(digest.bytes.data(), data, digest.bytes.size());
        return digest;
    }
    /** The first eight bytes; digests are uniformly distributed, so any of their bits are a hash. */
    uint64_t Word() const {
        uint64_t word;
        std::memcpy(&word, bytes.data(), sizeof(word));
        return word;
    }
    std::string Hex() const;
    /** False when `hex` is not 64 lower-case hexadecimal digits. */
    static bool Parse(const std::string& hex, Digest* digest);
};

/** What a block is called: its namespace is the store's. */
using BlockKey = Digest;

struct DigestHash {
    std::size_t operator()(const Digest& digest) const {
        return static_cast<std::size_t>(digest.Word());
    }
};

/** What the blocks of one store look like. */
struct BlockShape {
    /** One block: all layers, one after the other. */
    int64_t bytes_per_block = 0;
    int32_t num_layers = 0;
    /** Tokens; only compared. */
    int32_t block_size = 0;

    int64_t layer_bytes() const { return bytes_per_block / num_layers; }
};

}  // namespace ucm
