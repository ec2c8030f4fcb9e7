// Four 512-bit accumulators are folded over the data with carry-less multiplications; what is left of
// them is a short message with the same sum, which the crc32 instruction finishes.
#include <immintrin.h>
#include <string.h>

#include "store/crc32c_kernels.h"

namespace ucm::crc32c {
namespace {

constexpr size_t kVector = 64;
constexpr size_t kStep = 4 * kVector;
/** From this size on copies bypass the caches: the source was just read, the target is used later. */
constexpr size_t kStreamFrom = 4 * 1024;
/** How far ahead lines are fetched: the processor's own prefetches end with each page of 4 KiB. */
constexpr size_t kAhead = 2 * 1024;

/** Multipliers to move both halves of every 128-bit lane `bits` on. */
template <int bits>
inline __m128i Multipliers() {
    constexpr uint64_t kLow = FoldMultiplier(bits + 32);
    constexpr uint64_t kHigh = FoldMultiplier(bits - 32);
    return _mm_set_epi64x(static_cast<long long>(kHigh), static_cast<long long>(kLow));
}

inline __m512i Fold(__m512i x, __m512i multipliers, __m512i next) {
    const __m512i low = _mm512_clmulepi64_epi128(x, multipliers, 0x00);
    const __m512i high = _mm512_clmulepi64_epi128(x, multipliers, 0x11);
    return _mm512_ternarylogic_epi64(low, high, next, 0x96);
}

inline __m128i Fold(__m128i x, __m128i multipliers, __m128i next) {
    const __m128i low = _mm_clmulepi64_si128(x, multipliers, 0x00);
    const __m128i high = _mm_clmulepi64_si128(x, multipliers, 0x11);
    return _mm_ternarylogic_epi64(low, high, next, 0x96);
}

/** The crc32 instruction over the sixteen bytes that all folded data is congruent to. */
uint32_t Finish(__m512i x) {
    const __m128i by128 = Multipliers<128>();
    __m128i lane = _mm512_castsi512_si128(x);
    lane = Fold(lane, by128, _mm512_extracti32x4_epi32(x, 1));
    lane = Fold(lane, by128, _mm512_extracti32x4_epi32(x, 2));
    lane = Fold(lane, by128, _mm512_extracti32x4_epi32(x, 3));
    const uint64_t state = _mm_crc32_u64(0, static_cast<uint64_t>(_mm_cvtsi128_si64(lane)));
    return static_cast<uint32_t>(
        _mm_crc32_u64(state, static_cast<uint64_t>(_mm_extract_epi64(lane, 1))));
}

enum class Store { kNone, kCached, kStreaming };

template <Store store>
inline void Put(uint8_t* target, __m512i value) {
    if constexpr (store == Store::kCached) _mm512_storeu_si512(target, value);
    if constexpr (store == Store::kStreaming) {
        _mm512_stream_si512(reinterpret_cast<__m512i*>(target), value);
    }
}

template <Store store>
uint32_t Tail(uint32_t state, uint8_t* target, const uint8_t* data, size_t size) {
    if constexpr (store != Store::kNone) memcpy(target, data, size);
    uint64_t rest = state;
    for (; size >= 8; size -= 8, data += 8) {
        uint64_t word;
        memcpy(&word, data, sizeof(word));
        rest = _mm_crc32_u64(rest, word);
    }
    for (; size > 0; --size, ++data) rest = _mm_crc32_u8(static_cast<uint32_t>(rest), *data);
    return static_cast<uint32_t>(rest);
}

template <Store store>
uint32_t Run(uint32_t state, uint8_t* target, const uint8_t* data, size_t size) {
    if (size < kStep) return Tail<store>(state, target, data, size);
    __m512i x[4];
    for (int i = 0; i < 4; ++i) {
        x[i] = _mm512_loadu_si512(data + i * kVector);
        Put<store>(target + i * kVector, x[i]);
    }
    x[0] = _mm512_xor_si512(
        x[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
    size_t done = kStep;
    const __m512i by2048 = _mm512_broadcast_i32x4(Multipliers<2048>());
    for (; size - done >= kStep; done += kStep) {
        for (int i = 0; i < 4; ++i) {
            const uint8_t* line = data + done + i * kVector;
            // A hint, which may lie behind the data.
            _mm_prefetch(reinterpret_cast<const char*>(line + kAhead), _MM_HINT_T1);
            const __m512i next = _mm512_loadu_si512(line);
            Put<store>(target + done + i * kVector, next);
            x[i] = Fold(x[i], by2048, next);
        }
    }
    const __m512i by512 = _mm512_broadcast_i32x4(Multipliers<512>());
    __m512i sum = x[0];
    for (int i = 1; i < 4; ++i) sum = Fold(sum, by512, x[i]);
    for (; size - done >= kVector; done += kVector) {
        const __m512i next = _mm512_loadu_si512(data + done);
        Put<store>(target + done, next);
        sum = Fold(sum, by512, next);
    }
    if constexpr (store == Store::kStreaming) _mm_sfence();
    return Tail<store>(Finish(sum), target + done, data + done, size - done);
}

uint32_t Update(uint32_t state, const uint8_t* data, size_t size) {
    return Run<Store::kNone>(state, nullptr, data, size);
}

uint32_t Copy(uint32_t state, uint8_t* target, const uint8_t* data, size_t size) {
    const bool aligned = reinterpret_cast<uintptr_t>(target) % kVector == 0;
    return aligned && size >= kStreamFrom ? Run<Store::kStreaming>(state, target, data, size)
                                          : Run<Store::kCached>(state, target, data, size);
}

}  // namespace

const Kernels kAvx512Kernels = {"avx512", Update, Copy};

}  // namespace ucm::crc32c
