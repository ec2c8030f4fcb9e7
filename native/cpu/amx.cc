// AMX: products of bfloat16 pairs in tiles of 16 x 16 sums; all else is AVX-512 with BF16. See README.md
// for what an instruction-set file may include and export.
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
#include "cpu/amx_multiply.inc"
#include "cpu/amx_attention.inc"
#include "cpu/tensor_kernels.inc"
#include "cpu/avx512_int8.inc"
#include "cpu/amx_int8.inc"
#include "cpu/dense_kernels.inc"

constexpr TileKernels kAmxTileKernels = {PairProduct::kWordValues, PackKeyWords, PackValueWords,
                                         MultiplyInTiles, SoftmaxWords};
constexpr ColumnKernels kAmxColumnKernels = {PackColumns, PackValueColumns, AttendColumns, MergeColumn,
                                             WriteColumn};

}  // namespace

const Kernels kAmxKernels = {
    "amx",
    kWidth,
    &kAmxTileKernels,
    &kAmxColumnKernels,
    nullptr,
#include "cpu/kernel_table.inc"
};

}  // namespace ucm::cpu
