// The tile routines over bfloat16: pairs against float64 on the numbers that they were given, one token against
// panels.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/dispatch.h"
#include "test/check.h"
#include "test/random.h"

namespace ucm::test {
namespace {

/** Rows of a segment and of its scores. */
constexpr int64_t kTokenStride = 272;

using cpu::Dtype;
using cpu::Kernels;

/** A [rows, columns] matrix of bfloat16 numbers. */
struct Halves {
    Halves(Random& random, const Kernels& kernels, int64_t rows, int64_t columns)
        : columns(columns), stored(static_cast<std::size_t>(rows * columns)), values(stored.size()) {
        const std::vector<float> exact = random.Normals(rows * columns);
        kernels.from_float(Dtype::kBfloat16, exact.data(), stored.data(), rows * columns);
        kernels.to_float(Dtype::kBfloat16, stored.data(), values.data(), rows * columns);
        for (int64_t r = 0; r < rows; ++r) pointers.push_back(stored.data() + r * columns);
    }
    float at(int64_t row, int64_t column) const {
        return values[static_cast<std::size_t>(row * columns + column)];
    }
    cpu::RowList list(int64_t count, int64_t first = 0) const {
        return {pointers.data() + first, count, Dtype::kBfloat16, columns};
    }

    int64_t columns;
    std::vector<uint16_t> stored;
    std::vector<float> values;
    std::vector<const void*> pointers;
};

/** Calls `check` for each instruction set with such kernels, and says when there is none. */
template <typename Check>
void ForPairKernels(Check check) {
    bool any = false;
    for (const Kernels* kernels : cpu::AvailableKernels()) {
        if (kernels->pairs == nullptr) continue;
        any = true;
        check(*kernels, *kernels->pairs);
    }
    if (!any) std::puts("   this machine multiplies no bfloat16 pairs: nothing to compare");
}

/** Half `half` (0: low) of a word. */
float NumberOf(float word, int64_t half) {
    uint32_t bits = 0;
    std::memcpy(&bits, &word, sizeof(bits));
    bits = half == 0 ? bits << 16 : bits & 0xffff0000u;
    float number = 0.0f;
    std::memcpy(&number, &bits, sizeof(number));
    return number;
}

/** What attention of a token computes of a segment. */
struct TokenResult {
    TokenResult(int64_t rows, int64_t dim)
        : values(static_cast<std::size_t>(rows * dim), NAN),
          maxima(static_cast<std::size_t>(rows)),
          sums(static_cast<std::size_t>(rows)) {}
    bool operator==(const TokenResult&) const = default;

    std::vector<float> values, maxima, sums;
};

/** By panels of all keys, as tiles of any number of rows are. */
TokenResult AttendByPanels(const cpu::TileKernels& tiles, const std::vector<float>& queries,
                           int64_t rows, const Halves& keys, const Halves& values, int64_t count) {
    const int64_t dim = keys.columns;
    TokenResult result(rows, dim);
    std::vector<float> scores(static_cast<std::size_t>(rows * kTokenStride));
    std::vector<float> panel(static_cast<std::size_t>(cpu::kPanelKeys * dim));
    cpu::Product product = {.a = queries.data(), .lda = dim / tiles.word_values, .b = panel.data(),
                            .ldb = cpu::kPanelKeys, .c = nullptr, .ldc = kTokenStride, .rows = rows,
                            .columns = cpu::kPanelKeys, .depths = nullptr, .depth = dim,
                            .accumulate = false, .next = {}};
    for (int64_t key = 0; key < count; key += cpu::kPanelKeys) {
        tiles.pack_keys(keys.list(cpu::kPanelKeys, key), panel.data());
        product.c = scores.data() + key;
        tiles.multiply(product);
    }
    for (int64_t r = 0; r < rows; ++r) {
        const auto row = static_cast<std::size_t>(r);
        tiles.softmax(scores.data() + r * kTokenStride, count, &result.maxima[row],
                      &result.sums[row]);
    }
    product.lda = kTokenStride;
    product.c = result.values.data();
    product.ldb = product.ldc = product.columns = dim;
    for (int64_t key = 0; key < count; key += cpu::kPanelKeys) {
        const int64_t seen = std::min(cpu::kPanelKeys, count - key);
        const std::vector<int32_t> depths(static_cast<std::size_t>(rows),
                                          static_cast<int32_t>(seen));
        tiles.pack_values(values.list(seen, key), panel.data(), dim);
        product.a = scores.data() + key / tiles.word_values;
        product.depths = depths.data();
        product.accumulate = key > 0;
        tiles.multiply(product);
    }
    return result;
}

TokenResult AttendByGroups(const cpu::TileKernels& tiles, const std::vector<float>& queries,
                           int64_t rows, const Halves& keys, const Halves& values, int64_t count) {
    TokenResult result(rows, keys.columns);
    std::vector<const void*> groups;
    for (const Halves* plane : {&keys, &values}) {
        for (int64_t group = 0; group < cpu::GroupsOf(count); ++group) {
            groups.push_back(plane->pointers[static_cast<std::size_t>(group * cpu::kGroupKeys)]);
        }
    }
    groups.resize(groups.size() + cpu::kTokenLookahead, keys.pointers[0]);
    std::vector<float> scores(static_cast<std::size_t>(rows * kTokenStride));
    tiles.attend_token({.queries = queries.data(),
                        .rows = rows,
                        .head_dim = keys.columns,
                        .count = count,
                        .groups = groups.data(),
                        .scores = scores.data(),
                        .score_stride = kTokenStride,
                        .values = result.values.data(),
                        .value_stride = keys.columns,
                        .maxima = result.maxima.data(),
                        .sums = result.sums.data()});
    return result;
}

}  // namespace

UCM_TEST(PairPackingMovesEveryNumber) {
    Random random(1);
    ForPairKernels([&](const Kernels& kernels, const cpu::TileKernels& pairs) {
        for (const int64_t dim : {8, 32, 40, 64, 72, 128, 256}) {
            const int64_t count = random.Integer(1, cpu::kPanelKeys);
            const int64_t stride = (dim + 15) / 16 * 16;
            const Halves rows(random, kernels, count, dim);
            std::vector<float> keys(static_cast<std::size_t>(dim / 2 * cpu::kPanelKeys), NAN);
            std::vector<float> values(static_cast<std::size_t>((count + 1) / 2 * stride), NAN);
            pairs.pack_keys(rows.list(count), keys.data());
            pairs.pack_values(rows.list(count), values.data(), stride);
            for (int64_t i = 0; i < count; ++i) {
                for (int64_t d = 0; d < dim; ++d) {
                    const float key = keys[static_cast<std::size_t>(d / 2 * cpu::kPanelKeys + i)];
                    UCM_CHECK(NumberOf(key, d % 2) == rows.at(i, d));
                }
            }
            for (int64_t i = 0; i < (count + 1) / 2 * 2; ++i) {
                for (int64_t d = 0; d < stride; ++d) {
                    const float word = values[static_cast<std::size_t>(i / 2 * stride + d)];
                    const float expected = i < count && d < dim ? rows.at(i, d) : 0.0f;
                    UCM_CHECK(NumberOf(word, i % 2) == expected);
                }
            }
        }
    });
}

/** Depths of every parity; the number behind an odd depth is NaN. */
UCM_TEST(PairProductsHonourDepthsAndRowOrder) {
    Random random(2);
    ForPairKernels([&](const Kernels& kernels, const cpu::TileKernels& pairs) {
        for (int trial = 0; trial < 60; ++trial) {
            const int64_t rows = random.Integer(1, 30);
            const int64_t depth = 2 * random.Integer(1, 32);
            const int64_t columns = 16 * random.Integer(1, 9);
            Halves a(random, kernels, rows, depth);
            Halves b(random, kernels, depth, columns);
            std::vector<int32_t> depths;
            for (int64_t r = 0; r < rows; ++r) {
                depths.push_back(static_cast<int32_t>(std::min(depth, depth * r / rows + trial % 3)));
            }
            const int32_t deepest = depths.back();
            if (deepest < depth) {
                std::fill(b.stored.begin() + deepest * columns, b.stored.end(), uint16_t{0x7fc0});
            }
            for (int64_t r = 0; r < rows; ++r) {
                const int32_t own = depths[static_cast<std::size_t>(r)];
                if (own % 2 != 0) a.stored[static_cast<std::size_t>(r * depth + own)] = 0;
            }
            std::vector<float> words(static_cast<std::size_t>(depth / 2 * columns));
            pairs.pack_values(b.list(depth), words.data(), columns);
            std::vector<float> a_words(a.stored.size() / 2);
            std::memcpy(a_words.data(), a.stored.data(), a.stored.size() * 2);
            const bool accumulate = trial % 2 == 0;
            const std::vector<float> start = random.Normals(rows * columns);
            std::vector<float> all = start;
            std::vector<float> single = start;
            const auto multiply = [&](std::vector<float>& c, int64_t row, int64_t count) {
                pairs.multiply({.a = a_words.data() + row * depth / 2,
                                .lda = depth / 2,
                                .b = words.data(),
                                .ldb = columns,
                                .c = c.data() + row * columns,
                                .ldc = columns,
                                .rows = count,
                                .columns = columns,
                                .depths = depths.data() + row,
                                .depth = 0,
                                .accumulate = accumulate,
                                .next = {}});
            };
            multiply(all, 0, rows);
            for (int64_t r = 0; r < rows; ++r) multiply(single, r, 1);
            UCM_CHECK(std::memcmp(all.data(), single.data(), all.size() * sizeof(float)) == 0);
            for (int64_t at = 0; at < rows * columns; ++at) {
                const auto index = static_cast<std::size_t>(at);
                double expected = accumulate ? start[index] : 0.0;
                for (int32_t k = 0; k < depths[static_cast<std::size_t>(at / columns)]; ++k) {
                    expected += double{a.at(at / columns, k)} * b.at(k, at % columns);
                }
                UCM_CHECK(std::abs(all[index] - expected) < 1e-4);
            }
        }
    });
}

UCM_TEST(PairSoftmaxRoundsItsWeights) {
    Random random(3);
    ForPairKernels([&](const Kernels&, const cpu::TileKernels& pairs) {
        for (const int64_t count : {1, 2, 15, 16, 17, 100, 255, 256}) {
            std::vector<float> x = random.Normals(256 + 16);
            for (auto i = static_cast<std::size_t>(count); i < x.size(); ++i) x[i] = NAN;
            const std::vector<float> scores = x;
            float max = 0.0f;
            float sum = 0.0f;
            pairs.softmax(x.data(), count, &max, &sum);
            UCM_CHECK(max == *std::max_element(scores.begin(), scores.begin() + count));
            double kept = 0.0;
            for (int64_t i = 0; i < (count + 15) / 16 * 16; ++i) {
                const float weight = NumberOf(x[static_cast<std::size_t>(i / 2)], i % 2);
                const double exact =
                    i < count ? std::exp(double{scores[static_cast<std::size_t>(i)]} - max) : 0.0;
                UCM_CHECK(std::abs(weight - exact) <= exact / 256);
                kept += weight;
            }
            UCM_CHECK(std::abs(sum - kept) <= 1e-6 * kept);
        }
    });
}

/** Keys behind the last one that is seen, up to the end of their group, are NaN. */
UCM_TEST(AttentionOfATokenIsThatOfPanels) {
    Random random(4);
    for (const Kernels* kernels : cpu::AvailableKernels()) {
        const cpu::TileKernels tiles = cpu::TilesFor(*kernels, Dtype::kBfloat16);
        if (tiles.attend_token == nullptr) {
            std::printf("   %s has no kernel for one token\n", kernels->name);
            continue;
        }
        for (const int64_t dim : {64, 128}) {
            for (const int64_t count : {1, 2, 15, 16, 17, 33, 48, 100, 129, 255, 256}) {
                const int64_t rows = random.Integer(1, cpu::kMaxTokenRows);
                const Halves query(random, *kernels, rows, dim);
                std::vector<float> queries = query.values;
                if (tiles.word_values == 2) {
                    std::memcpy(queries.data(), query.stored.data(), query.stored.size() * 2);
                }
                Halves keys(random, *kernels, kTokenStride, dim);
                Halves values(random, *kernels, kTokenStride, dim);
                for (Halves* plane : {&keys, &values}) {
                    std::fill(plane->stored.begin() + count * dim, plane->stored.end(),
                              uint16_t{0x7fc0});
                }
                const TokenResult result =
                    AttendByGroups(tiles, queries, rows, keys, values, count);
                for (const float value : result.values) UCM_CHECK(std::isfinite(value));
                UCM_CHECK(result == AttendByPanels(tiles, queries, rows, keys, values, count));
            }
        }
    }
}

}  // namespace ucm::test
