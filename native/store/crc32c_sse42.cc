// The crc32 instruction has a latency of three cycles and a throughput of one: three streams at once
// keep it busy, and a carry-less multiplication per stream joins them.
#include <immintrin.h>
#include <string.h>

#include "store/crc32c_kernels.h"

namespace ucm::crc32c {
namespace {

constexpr size_t kStream = 1024;
/** Copies go in pieces that stay in the first-level cache until their sum is taken. */
constexpr size_t kCopyPiece = 8 * 3 * kStream;

inline uint64_t Load64(const uint8_t* data) {
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    return word;
}

/** `state` after as many zero bits as the multiplier stands for. */
inline uint32_t Shift(uint32_t state, uint32_t multiplier) {
    const __m128i product =
        _mm_clmulepi64_si128(_mm_cvtsi32_si128(static_cast<int>(state)),
                             _mm_cvtsi32_si128(static_cast<int>(multiplier)), 0);
    return static_cast<uint32_t>(
        _mm_crc32_u64(0, static_cast<uint64_t>(_mm_cvtsi128_si64(product))));
}

/** Feeding the 64-bit product to the instruction multiplies by x^33, which the multiplier leaves out. */
consteval uint32_t ShiftMultiplier(size_t bytes) {
    return PowerOfX(static_cast<int>(bytes) * 8 - 33);
}

uint32_t Update(uint32_t state, const uint8_t* data, size_t size) {
    constexpr uint32_t kOne = ShiftMultiplier(kStream);
    constexpr uint32_t kTwo = ShiftMultiplier(2 * kStream);
    for (; size >= 3 * kStream; size -= 3 * kStream, data += 3 * kStream) {
        uint64_t a = state;
        uint64_t b = 0;
        uint64_t c = 0;
        for (size_t i = 0; i < kStream; i += 8) {
            a = _mm_crc32_u64(a, Load64(data + i));
            b = _mm_crc32_u64(b, Load64(data + kStream + i));
            c = _mm_crc32_u64(c, Load64(data + 2 * kStream + i));
        }
        state = Shift(static_cast<uint32_t>(a), kTwo) ^ Shift(static_cast<uint32_t>(b), kOne) ^
                static_cast<uint32_t>(c);
    }
    uint64_t rest = state;
    for (; size >= 8; size -= 8, data += 8) rest = _mm_crc32_u64(rest, Load64(data));
    for (; size > 0; --size, ++data) rest = _mm_crc32_u8(static_cast<uint32_t>(rest), *data);
    return static_cast<uint32_t>(rest);
}

uint32_t Copy(uint32_t state, uint8_t* target, const uint8_t* data, size_t size) {
    while (size > 0) {
        const size_t piece = size < kCopyPiece ? size : kCopyPiece;
        memcpy(target, data, piece);
        state = Update(state, target, piece);
        target += piece;
        data += piece;
        size -= piece;
    }
    return state;
}

}  // namespace

const Kernels kSse42Kernels = {"sse4.2", Update, Copy};

}  // namespace ucm::crc32c
