// AMX in arrays, for tests of its kernels on machines without it: included before a file that uses its
// intrinsics, whose place it takes. What the processor would refuse ends the program. Source of what
// instructions do: Intel's Software Developer's Manual, volume 2.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace ucm::emulated {
namespace {

/** The operand of LDTILECFG, palette 1. */
struct Config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t column_bytes[16];
    uint8_t rows[16];
};

struct Tile {
    int rows = 0;
    int column_bytes = 0;
    uint8_t bytes[16][64] = {};
};

thread_local Tile g_tiles[8];

inline void LoadConfig(const void* operand) {
    Config config;
    std::memcpy(&config, operand, sizeof(config));
    for (int i = 0; i < 8; ++i) {
        g_tiles[i] = {};
        g_tiles[i].rows = config.rows[i];
        g_tiles[i].column_bytes = config.column_bytes[i];
    }
}

inline void Release() {
    for (Tile& tile : g_tiles) tile = {};
}

inline Tile& Configured(int tile) {
    if (g_tiles[tile].rows == 0) std::abort();
    return g_tiles[tile];
}

inline void Zero(int tile) { std::memset(Configured(tile).bytes, 0, sizeof(Tile::bytes)); }

inline void LoadTile(int tile, const void* from, int64_t stride) {
    Zero(tile);
    for (int row = 0; row < g_tiles[tile].rows; ++row) {
        std::memcpy(g_tiles[tile].bytes[row], static_cast<const char*>(from) + row * stride,
                    static_cast<std::size_t>(g_tiles[tile].column_bytes));
    }
}

inline void StoreTile(int tile, void* to, int64_t stride) {
    const Tile& from = Configured(tile);
    for (int row = 0; row < from.rows; ++row) {
        std::memcpy(static_cast<char*>(to) + row * stride, from.bytes[row],
                    static_cast<std::size_t>(from.column_bytes));
    }
}

template <typename T>
T At(const Tile& tile, int row, int column) {
    T value;
    std::memcpy(&value, tile.bytes[row] + column * static_cast<int>(sizeof(T)), sizeof(T));
    return value;
}

template <typename T>
void Set(Tile& tile, int row, int column, T value) {
    std::memcpy(tile.bytes[row] + column * static_cast<int>(sizeof(T)), &value, sizeof(T));
}

/** Words of the depth of sums += a * b. */
inline int DepthOf(const Tile& sums, const Tile& a, const Tile& b) {
    if (sums.rows != a.rows || sums.column_bytes != b.column_bytes ||
        a.column_bytes != 4 * b.rows) {
        std::abort();
    }
    return b.rows;
}

inline float FromHalf(uint16_t half) {
    const uint32_t bits = uint32_t{half} << 16;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

/** Adds product(a, row, b, column, words of the depth) to each sum. */
template <typename T, typename Product>
void Multiply(int sums_tile, int a_tile, int b_tile, Product product) {
    Tile& sums = Configured(sums_tile);
    const Tile& a = Configured(a_tile);
    const Tile& b = Configured(b_tile);
    const int depth = DepthOf(sums, a, b);
    for (int row = 0; row < sums.rows; ++row) {
        for (int column = 0; column < sums.column_bytes / 4; ++column) {
            const T added = product(a, row, b, column, depth);
            Set(sums, row, column, At<T>(sums, row, column) + added);
        }
    }
}

/** First and second numbers of words are added up apart, each in rising depth, and then to the sum. */
inline void MultiplyBfloat16(int sums, int a, int b) {
    Multiply<float>(sums, a, b, [](const Tile& x, int row, const Tile& y, int column, int depth) {
        float parts[2] = {};
        for (int word = 0; word < depth; ++word) {
            for (int half = 0; half < 2; ++half) {
                parts[half] = __builtin_fmaf(FromHalf(At<uint16_t>(x, row, 2 * word + half)),
                                             FromHalf(At<uint16_t>(y, word, 2 * column + half)),
                                             parts[half]);
            }
        }
        return parts[0] + parts[1];
    });
}

/** Unsigned bytes of a times signed ones of b. */
inline void MultiplyBytes(int sums, int a, int b) {
    Multiply<int32_t>(sums, a, b, [](const Tile& x, int row, const Tile& y, int column, int depth) {
        int32_t sum = 0;
        for (int byte = 0; byte < 4 * depth; ++byte) {
            sum += int{At<uint8_t>(x, row, byte)} *
                   int{At<int8_t>(y, byte / 4, 4 * column + byte % 4)};
        }
        return sum;
    });
}

}  // namespace
}  // namespace ucm::emulated

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbusd
#define _tile_loadconfig ucm::emulated::LoadConfig
#define _tile_release ucm::emulated::Release
#define _tile_zero ucm::emulated::Zero
#define _tile_loadd ucm::emulated::LoadTile
#define _tile_stored ucm::emulated::StoreTile
#define _tile_dpbf16ps ucm::emulated::MultiplyBfloat16
#define _tile_dpbusd ucm::emulated::MultiplyBytes
