// AVX-512 with BF16: pairs of bfloat16 are multiplied and added in one instruction. See README.md for what an instruction-set file may include and export.
#include <immintrin.h>

#include <cstdint>

#include "cpu/kernels.h"

#define UCM_UNROLL _Pragma("GCC unroll 16")

namespace ucm::cpu {
namespace {

#include "cpu/avx512_vectors.inc"

#include "cpu/avx512_pairs.inc"

#include "cpu/attention_kernels.inc"
#include "cpu/pair_kernels.inc"
#include "cpu/token_kernels.inc"
#include "cpu/tensor_kernels.inc"
#include "cpu/avx512_int8.inc"
#include "cpu/dense_kernels.inc"

void MultiplyInt8(const Int8Product& product) { MultiplyInt8From(product, 0); }

constexpr TileKernels kPairKernels = {PairProduct::kWordValues, PackKeyWords, PackValueWords,
                                      MultiplyWords<PairProduct>, SoftmaxWords,
                                      AttendToken<PairToken>};

}  // namespace

const Kernels kAvx512Bf16Kernels = {
    "avx512bf16",
    kWidth,
    &kPairKernels,
    nullptr,
    nullptr,
#include "cpu/kernel_table.inc"
};

}  // namespace ucm::cpu
