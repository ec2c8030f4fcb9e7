// AVX2 with FMA and F16C: see README.md for what an instruction-set file may include and export.
#include <immintrin.h>

#include <cstdint>

#include "cpu/kernels.h"

#define UCM_UNROLL _Pragma("GCC unroll 8")

namespace ucm::cpu {
namespace {

constexpr int kWidth = 8;
/** 12 sums, 2 vectors of B and one of A in 16 registers. */
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;

using Vec = __m256;
using IntVec = __m256i;

inline Vec Set(float x) { return _mm256_set1_ps(x); }
inline float First(Vec x) { return _mm256_cvtss_f32(x); }
inline Vec Load(const float* p) { return _mm256_loadu_ps(p); }
inline void Store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
inline IntVec SetInt(int32_t x) { return _mm256_set1_epi32(x); }
inline IntVec LaneNumbers() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
/** All bits set in the first n lanes. */
inline IntVec MaskOf(int64_t n) {
    return _mm256_cmpgt_epi32(SetInt(static_cast<int32_t>(n)), LaneNumbers());
}
inline Vec LoadTail(const float* p, int64_t n) { return _mm256_maskload_ps(p, MaskOf(n)); }
inline void StoreTail(float* p, int64_t n, Vec x) { _mm256_maskstore_ps(p, MaskOf(n), x); }
inline Vec FirstLanes(int64_t n, Vec x, Vec other) {
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(MaskOf(n)));
}
inline Vec Add(Vec x, Vec y) { return _mm256_add_ps(x, y); }
inline Vec Sub(Vec x, Vec y) { return _mm256_sub_ps(x, y); }
inline Vec Mul(Vec x, Vec y) { return _mm256_mul_ps(x, y); }
inline Vec MulAdd(Vec x, Vec y, Vec z) { return _mm256_fmadd_ps(x, y, z); }
inline Vec Max(Vec x, Vec y) { return _mm256_max_ps(x, y); }
inline Vec Min(Vec x, Vec y) { return _mm256_min_ps(x, y); }
inline Vec Div(Vec x, Vec y) { return _mm256_div_ps(x, y); }
/** 1 / x for x from 1 to 2, relative error about 1e-7. */
inline Vec ReciprocalFrom1To2(Vec x) {
    const Vec estimate = _mm256_rcp_ps(x);
    return _mm256_mul_ps(estimate, _mm256_fnmadd_ps(x, estimate, _mm256_set1_ps(2.0f)));
}
inline Vec Sqrt(Vec x) { return _mm256_sqrt_ps(x); }
inline Vec Round(Vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

inline IntVec LoadInt(const int32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
/** Lanes from 0 to 255. */
inline void StoreBytes(uint8_t* p, IntVec x) {
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
inline void StoreInt(int32_t* p, IntVec x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
}
inline IntVec BitsOf(Vec x) { return _mm256_castps_si256(x); }
inline Vec FloatOf(IntVec x) { return _mm256_castsi256_ps(x); }
inline IntVec ToInt(Vec x) { return _mm256_cvtps_epi32(x); }
inline Vec ToFloatVec(IntVec x) { return _mm256_cvtepi32_ps(x); }
inline IntVec AddInt(IntVec x, IntVec y) { return _mm256_add_epi32(x, y); }
inline IntVec SubInt(IntVec x, IntVec y) { return _mm256_sub_epi32(x, y); }
inline IntVec MulInt(IntVec x, IntVec y) { return _mm256_mullo_epi32(x, y); }
inline IntVec MaxInt(IntVec x, IntVec y) { return _mm256_max_epi32(x, y); }
inline IntVec AndInt(IntVec x, IntVec y) { return _mm256_and_si256(x, y); }
inline IntVec XorInt(IntVec x, IntVec y) { return _mm256_xor_si256(x, y); }
template <int kBits>
inline IntVec ShiftRight(IntVec x) {
    return _mm256_srli_epi32(x, kBits);
}
template <int kBits>
inline IntVec ShiftRightSigned(IntVec x) {
    return _mm256_srai_epi32(x, kBits);
}
template <int kBits>
inline IntVec ShiftLeft(IntVec x) {
    return _mm256_slli_epi32(x, kBits);
}

/** n within the normal exponents. */
inline Vec ScaleByPowerOfTwo(Vec x, Vec n) {
    return Mul(x, FloatOf(ShiftLeft<23>(AddInt(ToInt(n), SetInt(127)))));
}
/** y, and 0 where x < limit. */
inline Vec ZeroWhereLess(Vec x, Vec limit, Vec y) {
    return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_NLT_UQ), y);
}
inline float ReduceAdd(Vec x) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
inline float ReduceMax(Vec x) {
    __m128 max = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    max = _mm_max_ps(max, _mm_movehl_ps(max, max));
    return _mm_cvtss_f32(_mm_max_ss(max, _mm_movehdup_ps(max)));
}

inline Vec FromBfloat16(__m128i x) { return FloatOf(ShiftLeft<16>(_mm256_cvtepu16_epi32(x))); }

inline __m128i ToBfloat16(Vec x) {
    const IntVec bits = BitsOf(x);
    const IntVec odd = AndInt(ShiftRight<16>(bits), SetInt(1));
    const IntVec rounded = AddInt(AddInt(bits, SetInt(0x7fff)), odd);
    // A NaN keeps its top bits and becomes quiet; rounding could carry it into infinity.
    const IntVec quiet = _mm256_or_si256(bits, SetInt(0x400000));
    const Vec nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    const IntVec chosen =
        ShiftRight<16>(BitsOf(_mm256_blendv_ps(FloatOf(rounded), FloatOf(quiet), nan)));
    return _mm_packus_epi32(_mm256_castsi256_si128(chosen), _mm256_extracti128_si256(chosen, 1));
}

inline __m128i ToFloat16(Vec x) {
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

template <Dtype kDtype>
inline Vec FromHalf(__m128i x) {
    return kDtype == Dtype::kBfloat16 ? FromBfloat16(x) : _mm256_cvtph_ps(x);
}

template <Dtype kDtype>
inline Vec LoadAs(const void* p, int64_t i) {
    if constexpr (kDtype == Dtype::kFloat32) {
        return Load(static_cast<const float*>(p) + i);
    } else {
        const auto* half = reinterpret_cast<const __m128i*>(static_cast<const uint16_t*>(p) + i);
        return FromHalf<kDtype>(_mm_loadu_si128(half));
    }
}

template <Dtype kDtype>
inline Vec LoadTailAs(const void* p, int64_t i, int64_t n) {
    if constexpr (kDtype == Dtype::kFloat32) {
        return LoadTail(static_cast<const float*>(p) + i, n);
    } else {
        __m128i x = _mm_setzero_si128();
        __builtin_memcpy(&x, static_cast<const uint16_t*>(p) + i, static_cast<std::size_t>(2 * n));
        return FromHalf<kDtype>(x);
    }
}

template <Dtype kDtype>
inline void StoreTailAs(void* p, int64_t i, int64_t n, Vec x) {
    if constexpr (kDtype == Dtype::kFloat32) {
        StoreTail(static_cast<float*>(p) + i, n, x);
    } else {
        const __m128i half = kDtype == Dtype::kBfloat16 ? ToBfloat16(x) : ToFloat16(x);
        __builtin_memcpy(static_cast<uint16_t*>(p) + i, &half, static_cast<std::size_t>(2 * n));
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
        u[i] = _mm256_unpacklo_ps(t[i], t[i + 1]);
        u[i + 1] = _mm256_unpackhi_ps(t[i], t[i + 1]);
    }
    UCM_UNROLL for (int g = 0; g < kWidth; g += 4) {
        t[g] = _mm256_shuffle_ps(u[g], u[g + 2], 0x44);
        t[g + 1] = _mm256_shuffle_ps(u[g], u[g + 2], 0xee);
        t[g + 2] = _mm256_shuffle_ps(u[g + 1], u[g + 3], 0x44);
        t[g + 3] = _mm256_shuffle_ps(u[g + 1], u[g + 3], 0xee);
    }
    UCM_UNROLL for (int e = 0; e < 4; ++e) {
        u[e] = _mm256_permute2f128_ps(t[e], t[4 + e], 0x20);
        u[4 + e] = _mm256_permute2f128_ps(t[e], t[4 + e], 0x31);
    }
    UCM_UNROLL for (int i = 0; i < kWidth; ++i) {
        t[i] = u[i];
    }
}

#include "cpu/attention_kernels.inc"
#include "cpu/tensor_kernels.inc"
#include "cpu/avx2_int8.inc"
#include "cpu/dense_kernels.inc"

}  // namespace

const Kernels kAvx2Kernels = {
    "avx2",
    kWidth,
    nullptr,
    nullptr,
    nullptr,
#include "cpu/kernel_table.inc"
};

}  // namespace ucm::cpu
