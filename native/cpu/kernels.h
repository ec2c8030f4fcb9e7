#pragma once

#include <cstdint>

namespace ucm::cpu {

enum class Dtype : int32_t { kFloat32, kBfloat16, kFloat16 };

/** Keys of one packed panel; a multiple of every kernel's vector width. */
constexpr int64_t kPanelKeys = 64;
/** Widest vector in floats. Row strides of padded buffers are multiples of it. */
constexpr int64_t kMaxWidth = 16;
/** Neighbouring keys of a block that are found by one address. */
constexpr int64_t kGroupKeys = 16;
/** Groups of so many keys, the last of which may not be full. */
constexpr int64_t GroupsOf(int64_t keys) { return (keys + kGroupKeys - 1) / kGroupKeys; }
/** Rows of a column of ColumnKernels. */
constexpr int64_t kColumnRows = 16;
/** Outputs of one packed panel of int8 weights. */
constexpr int64_t kInt8Columns = 32;
/** Bytes of the depth that an instruction adds up at a time, and that lie together in a panel. */
constexpr int64_t kInt8Group = 4;
/** What the depth of int8 products is padded to: that of an AMX tile. */
constexpr int64_t kInt8Depth = 64;
/** Most rows of one Int8Product: of whole tiles on every instruction set. */
constexpr int64_t kInt8Rows = 96;
/** Values of one int4 block. */
constexpr int64_t kInt4Block = 32;

/** How some keys are described by one vector or two; see RepresentationSpec of src/native/. */
enum class Representation : int32_t {
    kNone,
    /** Their mean. */
    kMean,
    /** The greatest and the least value of every channel. */
    kMinMax,
    /** Their mean and their mean absolute deviation from it. */
    kCuboid,
};

/** Vectors of one description. */
constexpr int64_t PartsOf(Representation kind) {
    return kind == Representation::kNone ? 0 : kind == Representation::kMean ? 1 : 2;
}

/** Rows of a paged tensor, by address. */
struct RowList {
    const void* const* rows;
    int64_t count;
    Dtype dtype;
    int64_t head_dim;
};

/** C[row, :columns] (+)= A[row, :depth] * B[:depth, :columns]; see Kernels::multiply. */
struct Product {
    const float* a;
    int64_t lda;
    const float* b;
    int64_t ldb;
    float* c;
    int64_t ldc;
    int64_t rows;
    /** A multiple of the kernel's width. */
    int64_t columns;
    /** Depth of row r, not falling with r; null: `depth` for all rows. */
    const int32_t* depths;
    int64_t depth;
    /** Adds to C; otherwise C is overwritten (with zeros where the depth is 0). */
    bool accumulate;
    /** Rows that will be packed next, fetched into the cache meanwhile; or none. */
    RowList next;
};

/** Most rows of a TokenSegment. */
constexpr int64_t kMaxTokenRows = 8;
/** Groups that are fetched ahead of the one that is read. */
constexpr int64_t kTokenLookahead = 32;

/** Attention of one token's query heads that share a KV head over the keys of one segment. */
struct TokenSegment {
    /** Words [rows][head_dim / word_values] of the tile routines; at most kMaxTokenRows rows. */
    const float* queries;
    int64_t rows;
    /** 64 or 128. */
    int64_t head_dim;
    /** Keys, at least one. */
    int64_t count;
    /**
     * Addresses of arrays [kGroupKeys][head_dim] that are readable as a whole: the GroupsOf(count) of the
     * keys, those of their values, and kTokenLookahead that will be read next (any address serves).
     */
    const void* const* groups;
    /** Scratch [rows][count up to the next two groups]. */
    float* scores;
    int64_t score_stride;
    /** Out: weighted values, greatest scores and sums of weights. */
    float* values;
    int64_t value_stride;
    float* maxima;
    float* sums;
};

/**
 * The tile routines of attention over words of one float, or of two bfloat16 where an instruction set
 * multiplies pairs of them. Then queries and softmax weights are rounded to bfloat16, products and sums
 * are of fp32. Words lie in float arrays, the first number of a pair in the low half.
 */
struct TileKernels {
    /** Numbers of a word. */
    int64_t word_values;
    /** out[w * kPanelKeys + i] = word w of rows[i]; columns up to the next vector are zero. */
    void (*pack_keys)(const RowList& list, float* out);
    /**
     * out[p * stride + d]: number d of the rows of word p; zero where there is no such row, and in
     * columns from head_dim up to stride.
     */
    void (*pack_values)(const RowList& list, float* out, int64_t stride);
    /**
     * Each element of C is one chain of multiply-adds in rising depth, whatever `rows` is. Depths count
     * numbers, `lda` and `ldb` words; without `depths` the depth is one of whole words. Where a row's is
     * not, the rest of its last word of A is zero, and of B may be anything.
     */
    void (*multiply)(const Product& product);
    /**
     * exp(x[i] - max) as words, in place, for i < count and 0 up to the next vector of words; what it
     * takes the place of must be readable. Returns the maximum and the sum of the numbers as they are
     * kept.
     */
    void (*softmax)(float* x, int64_t count, float* max, float* sum);
    /** What the routines above give for a segment of bfloat16 keys and values, to the bit; or null. */
    void (*attend_token)(const TokenSegment& segment) = nullptr;
};

/** What a column's rows have of some keys: see ColumnSegment. */
struct ColumnPartial {
    /** [head_dim][kColumnRows] */
    float* values;
    /** [kColumnRows] */
    float* maxima;
    float* sums;
};

/** Columns of rows that attend to the keys of one segment. */
struct ColumnSegment {
    /** As pack_queries leaves them. */
    const float* queries;
    int64_t columns;
    /** A multiple of 32. */
    int64_t head_dim;
    /** Keys that some row sees, at least one. */
    int64_t count;
    /**
     * Addresses of groups of keys, [kGroupKeys][head_dim] of bfloat16, that can be read as a whole: as many
     * as `count` takes, and one more where that is odd.
     */
    const void* const* keys;
    /** As pack_values leaves them. */
    const float* values;
    /** Keys that each row sees, [columns][kColumnRows]; null: all rows see all, and these are whole pairs of groups. */
    const int32_t* seen;
    /** Groups of keys, and behind them as many of values, to fetch into the cache meanwhile. */
    const void* const* next;
    int64_t next_groups;
    /** Room for two columns: [2][`count` up to the next two groups][kColumnRows]. */
    float* scores;
    /** Out: of the first column; the others follow. */
    ColumnPartial result;
};

/**
 * Attention over bfloat16 keys and values with rows in the lanes of vectors, a column of them at a time.
 * Queries and weights are rounded to bfloat16; the sum is that of the rounded weights; all else is fp32.
 * A row that sees no key has the maximum -infinity, and sums and values of zero.
 */
struct ColumnKernels {
    /** From `rows` rows of words, [rows][head_dim / 2]; out has room for whole columns. */
    void (*pack_queries)(const float* words, int64_t rows, int64_t head_dim, float* out);
    /**
     * From `count` values in groups as ColumnSegment's keys; out has room for whole pairs of groups. False
     * when one is infinite or NaN, so that weights of zero do not hide it from rows that do not see it.
     */
    bool (*pack_values)(const void* const* groups, int64_t count, int64_t head_dim, float* out);
    void (*attend)(const ColumnSegment& segment);
    /** Folds what a column has of later keys into what it has of earlier ones. */
    void (*merge)(const ColumnPartial& column, const ColumnPartial& later, int64_t head_dim);
    /** The attention of the first `rows` rows of a column, [head_dim] each. */
    void (*write)(const ColumnPartial& column, int64_t head_dim, int64_t rows, float* const* out);
};

/** sums[r, n] = sum over k of (a[r, k] - 128) * panel(k, n), exact in 32 bits. */
struct Int8Product {
    /** [rows, depth], from 1 to 255: a value and 128. */
    const uint8_t* a;
    /** Bytes from row to row. */
    int64_t lda;
    /** 1 to kInt8Rows. */
    int64_t rows;
    /** [depth / kInt8Group][kInt8Columns][kInt8Group], from -127 to 127. */
    const int8_t* panel;
    /** [kInt8Columns]: 128 times the sum of each column, for instructions that multiply `a` as it is. */
    const int32_t* offsets;
    /** A multiple of kInt8Depth. */
    int64_t depth;
    /** [rows, kInt8Columns] */
    int32_t* sums;
    /** A panel of the same depth that is likely to be read next, to fetch its beginning; any address serves. */
    const int8_t* next;
};

/** out[r, n] (+)= sums[r, n] * (column_scales[n] * row_scales[r]) + bias[n]. */
struct Int8Result {
    /** [rows, kInt8Columns] */
    const int32_t* sums;
    int64_t rows;
    /** Those of the panel that exist. */
    int64_t columns;
    const float* row_scales;
    /** [kInt8Columns] */
    const float* column_scales;
    /** [kInt8Columns] */
    const float* bias;
    float* out;
    int64_t ldo;
    bool accumulate;
};

/** One head of one row before attention: optional RMS norm, rotation of the first 2 * half values,
 * scale. */
struct HeadInput {
    const float* x;
    int64_t head_dim;
    /** [head_dim] or null for no norm. */
    const float* norm_weight;
    float norm_eps;
    /** [half]; not read when half is 0. */
    const float* cos;
    const float* sin;
    int64_t half;
    float scale;
};

/**
 * The compute kernels of one instruction set. Arrays need no alignment and do not overlap unless
 * said otherwise. Every kernel's result for one row (or element) is a fixed sequence of operations
 * that does not depend on the number or the contents of other rows.
 */
struct Kernels {
    const char* name;
    /** Floats of one vector. */
    int64_t width;
    /** For bfloat16 keys and values; null where they are converted to floats. */
    const TileKernels* pairs;
    /** For bfloat16 keys and values in blocks of whole groups; null where there are none. */
    const ColumnKernels* columns;
    /** TileKernels::attend_token where `pairs` is null, with queries and weights of floats; or null. */
    void (*attend_token)(const TokenSegment& segment);

    // Paged attention.
    /** out[d * kPanelKeys + i] = rows[i][d]; columns up to the next vector are zero. */
    void (*pack_keys)(const RowList& list, float* out);
    /** out[i * stride + d] = rows[i][d]; columns from head_dim up to stride are zero. */
    void (*pack_values)(const RowList& list, float* out, int64_t stride);
    /** Each element of C is one chain of multiply-adds in rising depth, whatever `rows` is. */
    void (*multiply)(const Product& product);
    /**
     * x[i] = exp(x[i] - max) for i < count and 0 up to the next vector, which must be readable.
     * Returns the maximum and the sum.
     */
    void (*softmax)(float* x, int64_t count, float* max, float* sum);
    /** Folds a later partial result (values, maximum, sum) into an earlier one. */
    void (*merge)(float* values, float* max, float* sum, const float* later_values, float later_max,
                  float later_sum, int64_t count);
    /** out[i] = x[i] * factor. */
    void (*scale)(const float* x, float factor, float* out, int64_t count);
    void (*prepare_head)(const HeadInput& input, float* out);

    /**
     * out [parts][head_dim]: the description of `count` contiguous keys. The same bits on every
     * instruction set.
     */
    void (*describe_keys)(Representation kind, Dtype dtype, const void* keys, int64_t count,
                          int64_t head_dim, float* out);

    // Conversion. Pointers to 16-bit data may have any byte alignment.
    void (*to_float)(Dtype dtype, const void* x, float* out, int64_t count);
    /** To nearest, ties to even. */
    void (*from_float)(Dtype dtype, const float* x, void* out, int64_t count);

    // Quantization.
    /** Bit pattern of max |x|; at or above 0x7f800000 when x holds an infinity or a NaN. */
    uint32_t (*max_magnitude_bits)(const float* x, int64_t count);
    /** out[i] = x[i] * inverse_scale to nearest, within [-127, 127]. */
    void (*quantize_int8)(const float* x, float inverse_scale, int8_t* out, int64_t count);
    /** One block of kInt4Block values to 16 bytes, low nibble first, zero point 8. */
    void (*quantize_int4)(const float* x, uint8_t* packed, float* scale);

    /**
     * out[i] = deviation * n(key, first + i), n standard normal; first + count at most 2^32. The
     * same bits on every instruction set.
     */
    void (*fill_normal)(uint64_t key, uint32_t first, float deviation, float* out, int64_t count);

    // Sampling.
    /** Greatest value, NaN left out; -infinity when there is none. */
    float (*max_value)(const float* x, int64_t count);
    /** out[i] = exp((x[i] - shift) * factor), for shift >= x[i] and factor > 0. */
    void (*exp_shifted)(const float* x, float shift, float factor, float* out, int64_t count);

    // Dense layers with int8 weights.
    /** The same sums on every instruction set. */
    void (*multiply_int8)(const Int8Product& product);
    void (*scale_sums)(const Int8Result& result);
    /** up.out[r, n] = silu(what `gate` stands for) * what `up` stands for; neither accumulates. */
    void (*gate_sums)(const Int8Result& gate, const Int8Result& up);
    /** RMS norm: out[i] = x[i] / sqrt(mean of x * x + eps) * weight[i]; may be in place. */
    void (*norm_row)(const float* x, const float* weight, float eps, float* out, int64_t count);
    /**
     * out[i] = x[i] / scale to nearest, and 128; 128 alone from count to padded, a multiple of
     * kInt8Depth. Returns the scale, max |x| / 127, or NaN when x holds a NaN or an infinity, so that
     * what is made of the row is NaN too.
     */
    float (*quantize_row)(const float* x, int64_t count, uint8_t* out, int64_t padded);
};

/** The tile routines for keys and values of a dtype. */
inline TileKernels TilesFor(const Kernels& kernels, Dtype dtype) {
    if (dtype == Dtype::kBfloat16 && kernels.pairs != nullptr) return *kernels.pairs;
    return {1,
            kernels.pack_keys,
            kernels.pack_values,
            kernels.multiply,
            kernels.softmax,
            dtype == Dtype::kBfloat16 ? kernels.attend_token : nullptr};
}

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx512Bf16Kernels;
extern const Kernels kAmxKernels;

}  // namespace ucm::cpu
