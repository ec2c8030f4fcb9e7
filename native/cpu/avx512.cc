// AVX-512 (F, BW, DQ, VL): see README.md for what an instruction-set file may include and export.
#include <immintrin.h>

#include <cstdint>

#include "cpu/kernels.h"

#define UCM_UNROLL _Pragma("GCC unroll 16")

namespace ucm::cpu {
namespace {

#include "cpu/avx512_vectors.inc"

#include "cpu/attention_kernels.inc"
#include "cpu/tensor_kernels.inc"

}  // namespace

const Kernels kAvx512Kernels = {
    "avx512",
    kWidth,
    nullptr,
#include "cpu/kernel_table.inc"
};

}  // namespace ucm::cpu
