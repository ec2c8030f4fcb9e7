// AVX-512 with BF16: pairs of bfloat16 are multiplied and added in one instruction. See README.md for what an instruction-set file may include and export.
#include <immintrin.h>

#include <cstdint>

#include "cpu/kernels.h"

#define UCM_UNROLL _Pragma("GCC unroll 16")

namespace ucm::cpu {
namespace {

#include "cpu/avx512_vectors.inc"

/** Adds both products of each lane's pairs, each rounded, to the sum: the second values first. */
inline Vec DotPairs(Vec sum, Vec a, Vec b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}
inline __m256i RoundToBfloat16(Vec x) {
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
}
/** n numbers of 16 bits, zeros behind them. */
inline __m256i LoadHalvesTail(const void* p, int64_t i, int64_t n) {
    return _mm256_maskz_loadu_epi16(MaskOf(n), static_cast<const uint16_t*>(p) + i);
}
inline void StoreHalves(void* p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
/** Words of which the first values are `low`, the second ones `high`. */
inline Vec Interleave(__m256i low, __m256i high) {
    const IntVec second = ShiftLeft<16>(_mm512_cvtepu16_epi32(high));
    return FloatOf(_mm512_or_si512(_mm512_cvtepu16_epi32(low), second));
}
/** out[i] = word of the i-th numbers of `low` and `high`, 2 * kWidth of each. */
inline void StorePairs(float* out, Vec low, Vec high) {
    // Number i of `low` is index i, of `high` 32 + i.
    const IntVec first = AddInt(MulInt(LaneNumbers(), SetInt(0x00010001)), SetInt(0x00200000));
    const IntVec second = AddInt(first, SetInt(0x00100010));
    Store(out, FloatOf(_mm512_permutex2var_epi16(BitsOf(low), first, BitsOf(high))));
    Store(out + kWidth, FloatOf(_mm512_permutex2var_epi16(BitsOf(low), second, BitsOf(high))));
}

#include "cpu/attention_kernels.inc"
#include "cpu/pair_kernels.inc"
#include "cpu/tensor_kernels.inc"

}  // namespace

const Kernels kAvx512Bf16Kernels = {
    "avx512bf16",
    kWidth,
    &kPairKernels,
#include "cpu/kernel_table.inc"
};

}  // namespace ucm::cpu
