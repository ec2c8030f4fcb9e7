// Baseline for every x86-64: see README.md for what an instruction-set file may include and export.
#include <cstdint>

#include "cpu/kernels.h"

#define UCM_UNROLL _Pragma("GCC unroll 4")

namespace ucm::cpu {
namespace {

constexpr int kWidth = 1;
constexpr int kTileRows = 3;
constexpr int kTileVectors = 4;

using Vec = float;
using IntVec = int32_t;

inline Vec Set(float x) { return x; }
inline float First(Vec x) { return x; }
inline Vec Load(const float* p) { return *p; }
inline void Store(float* p, Vec x) { *p = x; }
inline Vec LoadTail(const float* p, int64_t n) { return n > 0 ? *p : 0.0f; }
inline void StoreTail(float* p, int64_t n, Vec x) {
    if (n > 0) *p = x;
}
inline Vec FirstLanes(int64_t n, Vec x, Vec other) { return n > 0 ? x : other; }
inline Vec Add(Vec x, Vec y) { return x + y; }
inline Vec Sub(Vec x, Vec y) { return x - y; }
inline Vec Mul(Vec x, Vec y) { return x * y; }
inline Vec MulAdd(Vec x, Vec y, Vec z) { return x * y + z; }
inline Vec Max(Vec x, Vec y) { return x > y ? x : y; }
inline Vec Min(Vec x, Vec y) { return x < y ? x : y; }
inline Vec Div(Vec x, Vec y) { return x / y; }
/** 1 / x for x from 1 to 2. */
inline Vec ReciprocalFrom1To2(Vec x) { return 1.0f / x; }
inline Vec Sqrt(Vec x) { return __builtin_sqrtf(x); }
/** To nearest, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no fraction bits. */
inline Vec Round(Vec x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

inline IntVec SetInt(int32_t x) { return x; }
inline IntVec LaneNumbers() { return 0; }
inline IntVec LoadInt(const int32_t* p) { return *p; }
inline void StoreBytes(uint8_t* p, IntVec x) { *p = static_cast<uint8_t>(x); }
inline void StoreInt(int32_t* p, IntVec x) { *p = x; }
inline IntVec BitsOf(Vec x) { return __builtin_bit_cast(int32_t, x); }
inline Vec FloatOf(IntVec x) { return __builtin_bit_cast(float, x); }
inline IntVec ToInt(Vec x) { return static_cast<int32_t>(x); }
inline Vec ToFloatVec(IntVec x) { return static_cast<float>(x); }
inline uint32_t Unsigned(IntVec x) { return static_cast<uint32_t>(x); }
inline IntVec AddInt(IntVec x, IntVec y) { return static_cast<int32_t>(Unsigned(x) + Unsigned(y)); }
inline IntVec SubInt(IntVec x, IntVec y) { return static_cast<int32_t>(Unsigned(x) - Unsigned(y)); }
inline IntVec MulInt(IntVec x, IntVec y) { return static_cast<int32_t>(Unsigned(x) * Unsigned(y)); }
inline IntVec MaxInt(IntVec x, IntVec y) { return x > y ? x : y; }
inline IntVec AndInt(IntVec x, IntVec y) { return x & y; }
inline IntVec XorInt(IntVec x, IntVec y) { return x ^ y; }
template <int kBits>
inline IntVec ShiftRight(IntVec x) {
    return static_cast<int32_t>(Unsigned(x) >> kBits);
}
template <int kBits>
inline IntVec ShiftRightSigned(IntVec x) {
    return x >> kBits;
}
template <int kBits>
inline IntVec ShiftLeft(IntVec x) {
    return static_cast<int32_t>(Unsigned(x) << kBits);
}

/** n within the normal exponents, or x about to be replaced. */
inline Vec ScaleByPowerOfTwo(Vec x, Vec n) {
    const float exponent = n > -126.0f ? (n < 127.0f ? n : 127.0f) : -126.0f;
    return x * FloatOf(ShiftLeft<23>(static_cast<int32_t>(exponent) + 127));
}
/** y, and 0 where x < limit. */
inline Vec ZeroWhereLess(Vec x, Vec limit, Vec y) { return x < limit ? 0.0f : y; }
inline float ReduceAdd(Vec x) { return x; }
inline float ReduceMax(Vec x) { return x; }
inline void Transpose(Vec (&)[1]) {}

inline uint16_t ToBfloat16(float x) {
    const uint32_t bits = Unsigned(BitsOf(x));
    if (x != x) return static_cast<uint16_t>((bits | 0x400000) >> 16);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float FromBfloat16(uint16_t x) {
    return FloatOf(static_cast<int32_t>(static_cast<uint32_t>(x) << 16));
}

inline float FromFloat16(uint16_t x) {
    const uint32_t sign = static_cast<uint32_t>(x & 0x8000) << 16;
    const uint32_t exponent = (x >> 10) & 0x1f;
    const uint32_t mantissa = x & 0x3ff;
    uint32_t bits = 0;
    if (exponent == 0x1f) {
        // A NaN becomes quiet, as the conversion instructions make it.
        bits = 0x7f800000 | mantissa << 13 | (mantissa != 0 ? 0x400000 : 0);
    } else if (exponent != 0) {
        bits = (exponent + 112) << 23 | mantissa << 13;
    } else {
        bits = Unsigned(BitsOf(static_cast<float>(mantissa) * 0x1p-24f));
    }
    return FloatOf(static_cast<int32_t>(bits | sign));
}

inline uint16_t ToFloat16(float x) {
    const uint32_t bits = Unsigned(BitsOf(x));
    const uint32_t sign = (bits >> 16) & 0x8000;
    const uint32_t magnitude = bits & 0x7fffffff;
    uint32_t half = 0;
    if (magnitude > 0x7f800000) {
        half = 0x7e00 | ((magnitude >> 13) & 0x3ff);
    } else if (magnitude >= 0x47800000) {
        half = 0x7c00;
    } else if (magnitude >= 0x38800000) {
        // Rounding may carry into the exponent and from 65504 into infinity, as it should.
        half = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    } else {
        // Below 2^-14, adding 1/2 leaves the 10 fraction bits of a half denormal.
        const float sum = FloatOf(static_cast<int32_t>(magnitude)) + 0.5f;
        half = Unsigned(BitsOf(sum)) - 0x3f000000;
    }
    return static_cast<uint16_t>(half | sign);
}

template <Dtype kDtype>
inline Vec LoadAs(const void* p, int64_t i) {
    if constexpr (kDtype == Dtype::kFloat32) {
        float x = 0.0f;
        __builtin_memcpy(&x, static_cast<const char*>(p) + 4 * i, 4);
        return x;
    } else {
        uint16_t x = 0;
        __builtin_memcpy(&x, static_cast<const char*>(p) + 2 * i, 2);
        return kDtype == Dtype::kBfloat16 ? FromBfloat16(x) : FromFloat16(x);
    }
}

template <Dtype kDtype>
inline Vec LoadTailAs(const void* p, int64_t i, int64_t n) {
    return n > 0 ? LoadAs<kDtype>(p, i) : 0.0f;
}

template <Dtype kDtype>
inline void StoreAs(void* p, int64_t i, Vec x) {
    if constexpr (kDtype == Dtype::kFloat32) {
        __builtin_memcpy(static_cast<char*>(p) + 4 * i, &x, 4);
    } else {
        const uint16_t half = kDtype == Dtype::kBfloat16 ? ToBfloat16(x) : ToFloat16(x);
        __builtin_memcpy(static_cast<char*>(p) + 2 * i, &half, 2);
    }
}

template <Dtype kDtype>
inline void StoreTailAs(void* p, int64_t i, int64_t n, Vec x) {
    if (n > 0) StoreAs<kDtype>(p, i, x);
}

#include "cpu/attention_kernels.inc"
#include "cpu/tensor_kernels.inc"
#include "cpu/dense_kernels.inc"

void MultiplyInt8(const Int8Product& product) {
    for (int64_t r = 0; r < product.rows; ++r) {
        const uint8_t* a = product.a + r * product.lda;
        int32_t* sums = product.sums + r * kInt8Columns;
        for (int64_t n = 0; n < kInt8Columns; ++n) sums[n] = 0;
        for (int64_t k = 0; k < product.depth; ++k) {
            const int8_t* group = product.panel + k / kInt8Group * kInt8Columns * kInt8Group;
            const int32_t x = a[k] - 128;
            for (int64_t n = 0; n < kInt8Columns; ++n) {
                sums[n] += x * group[n * kInt8Group + k % kInt8Group];
            }
        }
    }
}

}  // namespace

const Kernels kScalarKernels = {
    "scalar",
    kWidth,
    nullptr,
    nullptr,
    nullptr,
#include "cpu/kernel_table.inc"
};

}  // namespace ucm::cpu
