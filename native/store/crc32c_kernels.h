#pragma once

#include <cstddef>
#include <cstdint>

namespace ucm::crc32c {

/** Bits of the Castagnoli polynomial 0x1EDC6F41, reflected: bit i is the coefficient of x^(31 - i). */
constexpr uint32_t kPolynomial = 0x82f63b78;

/** x^exponent modulo the polynomial, reflected. */
consteval uint32_t PowerOfX(int exponent) {
    uint32_t value = 0x80000000;
    for (int i = 0; i < exponent; ++i) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
    return value;
}

/**
 * Multiplier that moves 64 bits of a carry-less product `exponent` bits on. The product of two
 * reflected operands lacks one factor of x, hence the shift (Intel, "Fast CRC Computation Using
 * PCLMULQDQ", 2009).
 */
consteval uint64_t FoldMultiplier(int exponent) { return uint64_t{PowerOfX(exponent)} << 1; }

/** One implementation. States are raw register values: the caller inverts before and after. */
struct Kernels {
    const char* name;
    uint32_t (*update)(uint32_t state, const uint8_t* data, std::size_t size);
    /** Also copies the bytes to `target`, which does not overlap `data`. */
    uint32_t (*copy)(uint32_t state, uint8_t* target, const uint8_t* data, std::size_t size);
};

extern const Kernels kTableKernels;
/** Needs SSE4.2 and PCLMULQDQ. */
extern const Kernels kSse42Kernels;
/** Needs AVX-512 F and VL, VPCLMULQDQ, SSE4.2 and PCLMULQDQ. */
extern const Kernels kAvx512Kernels;

}  // namespace ucm::crc32c
