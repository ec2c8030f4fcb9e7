// AVX-512 (F, BW, DQ, VL): see README.md for what an instruction-set file may include and export.
#include <immintrin.h>

#include <cstdint>

#include "cpu/kernels.h"

#define UCM_UNROLL _Pragma("GCC unroll 16")

namespace ucm::cpu {
namespace {

constexpr int kWidth = 16;
/** 24 sums, 4 vectors of B, and A broadcast from memory, in 32 registers. */
constexpr int kTileRows = 6;
constexpr int kTileVectors = 4;

using Vec = __m512;
using IntVec = __m512i;

inline __mmask16 MaskOf(int64_t lanes) { return static_cast<__mmask16>((1u << lanes) - 1); }

inline Vec Set(float x) { return _mm512_set1_ps(x); }
inline float First(Vec x) { return _mm512_cvtss_f32(x); }
inline Vec Load(const float* p) { return _mm512_loadu_ps(p); }
inline void Store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
inline Vec LoadTail(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(MaskOf(n), p); }
inline void StoreTail(float* p, int64_t n, Vec x) { _mm512_mask_storeu_ps(p, MaskOf(n), x); }
inline Vec FirstLanes(int64_t n, Vec x, Vec other) {
    return _mm512_mask_blend_ps(MaskOf(n), other, x);
}
inline Vec Add(Vec x, Vec y) { return _mm512_add_ps(x, y); }
inline Vec Sub(Vec x, Vec y) { return _mm512_sub_ps(x, y); }
inline Vec Mul(Vec x, Vec y) { return _mm512_mul_ps(x, y); }
inline Vec MulAdd(Vec x, Vec y, Vec z) { return _mm512_fmadd_ps(x, y, z); }
inline Vec Max(Vec x, Vec y) { return _mm512_max_ps(x, y); }
inline Vec Min(Vec x, Vec y) { return _mm512_min_ps(x, y); }
inline Vec Sqrt(Vec x) { return _mm512_sqrt_ps(x); }
inline Vec Round(Vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec ScaleByPowerOfTwo(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }
/** y, and 0 where x < limit. */
inline Vec ZeroWhereLess(Vec x, Vec limit, Vec y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), y);
}
inline float ReduceAdd(Vec x) { return _mm512_reduce_add_ps(x); }
inline float ReduceMax(Vec x) { return _mm512_reduce_max_ps(x); }

inline IntVec SetInt(int32_t x) { return _mm512_set1_epi32(x); }
inline IntVec LaneNumbers() {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
inline void StoreInt(int32_t* p, IntVec x) { _mm512_storeu_si512(p, x); }
inline IntVec BitsOf(Vec x) { return _mm512_castps_si512(x); }
inline Vec FloatOf(IntVec x) { return _mm512_castsi512_ps(x); }
inline IntVec ToInt(Vec x) { return _mm512_cvtps_epi32(x); }
inline Vec ToFloatVec(IntVec x) { return _mm512_cvtepi32_ps(x); }
inline IntVec AddInt(IntVec x, IntVec y) { return _mm512_add_epi32(x, y); }
inline IntVec SubInt(IntVec x, IntVec y) { return _mm512_sub_epi32(x, y); }
inline IntVec MulInt(IntVec x, IntVec y) { return _mm512_mullo_epi32(x, y); }
inline IntVec MaxInt(IntVec x, IntVec y) { return _mm512_max_epi32(x, y); }
inline IntVec AndInt(IntVec x, IntVec y) { return _mm512_and_si512(x, y); }
inline IntVec XorInt(IntVec x, IntVec y) { return _mm512_xor_si512(x, y); }
template <int kBits>
inline IntVec ShiftRight(IntVec x) {
    return _mm512_srli_epi32(x, kBits);
}
template <int kBits>
inline IntVec ShiftRightSigned(IntVec x) {
    return _mm512_srai_epi32(x, kBits);
}
template <int kBits>
inline IntVec ShiftLeft(IntVec x) {
    return _mm512_slli_epi32(x, kBits);
}

inline Vec FromBfloat16(__m256i x) { return FloatOf(ShiftLeft<16>(_mm512_cvtepu16_epi32(x))); }

inline __m256i ToBfloat16(Vec x) {
    const IntVec bits = BitsOf(x);
    const IntVec odd = AndInt(ShiftRight<16>(bits), SetInt(1));
    const IntVec rounded = AddInt(AddInt(bits, SetInt(0x7fff)), odd);
    // A NaN keeps its top bits and becomes quiet; rounding could carry it into infinity.
    const IntVec quiet = _mm512_or_si512(bits, SetInt(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(ShiftRight<16>(_mm512_mask_mov_epi32(rounded, nan, quiet)));
}

inline __m256i ToFloat16(Vec x) {
    return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

template <Dtype kDtype>
inline Vec LoadAs(const void* p, int64_t i) {
    if constexpr (kDtype == Dtype::kFloat32) {
        return Load(static_cast<const float*>(p) + i);
    } else {
        const auto* half = reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(p) + i);
        const __m256i x = _mm256_loadu_si256(half);
        return kDtype == Dtype::kBfloat16 ? FromBfloat16(x) : _mm512_cvtph_ps(x);
    }
}

template <Dtype kDtype>
inline Vec LoadTailAs(const void* p, int64_t i, int64_t n) {
    if constexpr (kDtype == Dtype::kFloat32) {
        return LoadTail(static_cast<const float*>(p) + i, n);
    } else {
        const __m256i x = _mm256_maskz_loadu_epi16(MaskOf(n), static_cast<const uint16_t*>(p) + i);
        return kDtype == Dtype::kBfloat16 ? FromBfloat16(x) : _mm512_cvtph_ps(x);
    }
}

template <Dtype kDtype>
inline void StoreTailAs(void* p, int64_t i, int64_t n, Vec x) {
    if constexpr (kDtype == Dtype::kFloat32) {
        StoreTail(static_cast<float*>(p) + i, n, x);
    } else {
        const __m256i half = kDtype == Dtype::kBfloat16 ? ToBfloat16(x) : ToFloat16(x);
        _mm256_mask_storeu_epi16(static_cast<uint16_t*>(p) + i, MaskOf(n), half);
    }
}

template <Dtype kDtype>
inline void StoreAs(void* p, int64_t i, Vec x) {
    StoreTailAs<kDtype>(p, i, kWidth, x);
}

/** In place: element j of vector i becomes element i of vector j. */
inline void Transpose(Vec (&t)[kWidth]) {
    Vec u[kWidth];
    UCM_UNROLL for (int i = 0; i < kWidth; i += 2) {
        u[i] = _mm512_unpacklo_ps(t[i], t[i + 1]);
        u[i + 1] = _mm512_unpackhi_ps(t[i], t[i + 1]);
    }
    // Quarter q of t[4 g + e] now holds element 4 q + e of rows 4 g … 4 g + 3.
    UCM_UNROLL for (int g = 0; g < kWidth; g += 4) {
        const auto pair = [&](int i) { return _mm512_castps_pd(u[g + i]); };
        t[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(pair(0), pair(2)));
        t[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pair(0), pair(2)));
        t[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pair(1), pair(3)));
        t[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pair(1), pair(3)));
    }
    UCM_UNROLL for (int e = 0; e < 4; ++e) {
        const Vec low01 = _mm512_shuffle_f32x4(t[e], t[4 + e], 0x44);
        const Vec high01 = _mm512_shuffle_f32x4(t[e], t[4 + e], 0xee);
        const Vec low23 = _mm512_shuffle_f32x4(t[8 + e], t[12 + e], 0x44);
        const Vec high23 = _mm512_shuffle_f32x4(t[8 + e], t[12 + e], 0xee);
        u[e] = _mm512_shuffle_f32x4(low01, low23, 0x88);
        u[4 + e] = _mm512_shuffle_f32x4(low01, low23, 0xdd);
        u[8 + e] = _mm512_shuffle_f32x4(high01, high23, 0x88);
        u[12 + e] = _mm512_shuffle_f32x4(high01, high23, 0xdd);
    }
    UCM_UNROLL for (int i = 0; i < kWidth; ++i) {
        t[i] = u[i];
    }
}

#include "cpu/attention_kernels.inc"
#include "cpu/tensor_kernels.inc"

}  // namespace

const Kernels kAvx512Kernels = {
    "avx512",
    kWidth,
#include "cpu/kernel_table.inc"
};

}  // namespace ucm::cpu
