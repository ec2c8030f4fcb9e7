// AVX-512 (F, BW, DQ, VL, VNNI): see README.md for what an instruction-set file may include and export.
#include <immintrin.h>

#include <cstdint>

#include "cpu/kernels.h"

#define UCM_UNROLL _Pragma("GCC unroll 16")

namespace ucm::cpu {
namespace {

#include "cpu/avx512_vectors.inc"

#include "cpu/avx512_pairs.inc"

#include "cpu/attention_kernels.inc"
#include "cpu/token_kernels.inc"
#include "cpu/tensor_kernels.inc"
#include "cpu/avx512_int8.inc"
#include "cpu/dense_kernels.inc"

void MultiplyInt8(const Int8Product& product) { MultiplyInt8From(product, 0); }

}  // namespace

const Kernels kAvx512Kernels = {
    "avx512",
    kWidth,
    nullptr,
    nullptr,
    AttendToken<FloatToken>,
#include "cpu/kernel_table.inc"
};

}  // namespace ucm::cpu
