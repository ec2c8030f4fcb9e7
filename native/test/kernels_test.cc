// Every kernel table of this machine against plain float64 formulas.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "common/dtype.h"
#include "cpu/dispatch.h"
#include "cpu/reference.h"
#include "test/check.h"
#include "test/random.h"

namespace ucm::test {
namespace {

using cpu::AvailableKernels;
using cpu::Kernels;

/** Values of every magnitude, with the edges of the 16-bit formats. */
std::vector<float> ConversionInputs(Random& random) {
    std::vector<float> values = {0.0f,     -0.0f,      1.0f,       65504.0f,       65519.0f,
                                 65520.0f, -65536.0f,  0x1p-14f,   0x1p-24f,       0x1.8p-25f,
                                 0x1p-25f, 0x1.002p0f, 0x1.001p0f, 0x1.01p0f,      0x1.03p0f,
                                 0x1p127f, INFINITY,   -INFINITY,  0x1.fffffep127f};
    for (int i = 0; i < 3000; ++i) {
        values.push_back(std::ldexp(random.Normal(), static_cast<int>(random.Integer(-40, 40))));
    }
    return values;
}

std::vector<const void*> RowPointers(const std::vector<uint8_t>& bytes, int64_t rows,
                                     int64_t row_bytes) {
    std::vector<const void*> pointers;
    for (int64_t i = 0; i < rows; ++i) pointers.push_back(bytes.data() + i * row_bytes);
    return pointers;
}

}  // namespace

UCM_TEST(DispatchFindsByName) {
    const Kernels* kernels = nullptr;
    UCM_CHECK(cpu::FindKernels(nullptr, &kernels).ok());
    UCM_CHECK(kernels == AvailableKernels().front());
    UCM_CHECK(cpu::FindKernels("scalar", &kernels).ok());
    UCM_CHECK(kernels == &cpu::kScalarKernels);
    const Status status = cpu::FindKernels("sse9", &kernels);
    UCM_CHECK(status.code() == StatusCode::kUnsupported);
    UCM_CHECK(status.message().find("'sse9'") != std::string::npos);
    UCM_CHECK(status.message().find("scalar") != std::string::npos);
}

UCM_TEST(ConversionsRoundToNearestEven) {
    Random random(1);
    const std::vector<float> values = ConversionInputs(random);
    const auto count = static_cast<int64_t>(values.size());
    for (const Kernels* kernels : AvailableKernels()) {
        for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16}) {
            std::vector<uint8_t> stored(values.size() * 4);
            std::vector<float> back(values.size());
            kernels->from_float(dtype, values.data(), stored.data(), count);
            kernels->to_float(dtype, stored.data(), back.data(), count);
            for (std::size_t i = 0; i < values.size(); ++i) {
                const auto expected = static_cast<float>(cpu::ReferenceRound(values[i], dtype));
                UCM_CHECK_MESSAGE(
                    std::bit_cast<uint32_t>(back[i]) == std::bit_cast<uint32_t>(expected),
                    std::string(kernels->name) + " " + std::to_string(values[i]));
            }
        }
    }
}

/** All 65536 patterns: bfloat16 is the upper half of a float, float16 is checked by its fields. */
UCM_TEST(HalfPatternsConvertExactly) {
    std::vector<uint16_t> patterns(65536);
    for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint16_t>(i);
    std::vector<float> values(patterns.size());
    for (const Kernels* kernels : AvailableKernels()) {
        kernels->to_float(Dtype::kBfloat16, patterns.data(), values.data(), 65536);
        for (std::size_t i = 0; i < patterns.size(); ++i) {
            UCM_CHECK(std::bit_cast<uint32_t>(values[i]) == static_cast<uint32_t>(i) << 16);
        }
        kernels->to_float(Dtype::kFloat16, patterns.data(), values.data(), 65536);
        for (std::size_t i = 0; i < patterns.size(); ++i) {
            const int exponent = static_cast<int>(i >> 10 & 31);
            const double mantissa = static_cast<double>(i & 1023);
            const double sign = i >> 15 != 0 ? -1.0 : 1.0;
            if (exponent == 31) {
                UCM_CHECK(mantissa != 0 ? std::isnan(values[i]) : values[i] == sign * INFINITY);
                continue;
            }
            const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24)
                                                   : std::ldexp(1024 + mantissa, exponent - 25);
            UCM_CHECK(values[i] == static_cast<float>(sign * magnitude));
        }
    }
}

UCM_TEST(NanStaysNan) {
    const std::vector<float> nans = {std::nanf(""), -std::nanf(""),
                                     std::bit_cast<float>(0x7f800001u),
                                     std::bit_cast<float>(0xffffffffu)};
    for (const Kernels* kernels : AvailableKernels()) {
        for (const Dtype dtype : {Dtype::kBfloat16, Dtype::kFloat16}) {
            uint16_t stored[4];
            float back[4];
            kernels->from_float(dtype, nans.data(), stored, 4);
            kernels->to_float(dtype, stored, back, 4);
            for (const float value : back) UCM_CHECK(std::isnan(value));
        }
    }
}

UCM_TEST(PackingMovesEveryElement) {
    Random random(2);
    for (const Kernels* kernels : AvailableKernels()) {
        for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16}) {
            for (const int64_t dim : {32, 40, 64, 72, 128, 256}) {
                const int64_t count = random.Integer(1, cpu::kPanelKeys);
                const int64_t stride = (dim + cpu::kMaxWidth - 1) / cpu::kMaxWidth * cpu::kMaxWidth;
                const std::vector<float> values = random.Normals(count * dim);
                std::vector<uint8_t> stored(values.size() * 4);
                std::vector<float> rounded(values.size());
                kernels->from_float(dtype, values.data(), stored.data(), count * dim);
                kernels->to_float(dtype, stored.data(), rounded.data(), count * dim);
                const auto rows = RowPointers(stored, count, dim * BytesOf(dtype));
                const cpu::RowList list = {rows.data(), count, dtype, dim};
                std::vector<float> keys(static_cast<std::size_t>(dim * cpu::kPanelKeys), NAN);
                std::vector<float> packed(static_cast<std::size_t>(count * stride), NAN);
                kernels->pack_keys(list, keys.data());
                kernels->pack_values(list, packed.data(), stride);
                for (int64_t i = 0; i < count; ++i) {
                    for (int64_t d = 0; d < stride; ++d) {
                        const float expected =
                            d < dim ? rounded[static_cast<std::size_t>(i * dim + d)] : 0.0f;
                        UCM_CHECK(packed[static_cast<std::size_t>(i * stride + d)] == expected);
                        if (d >= dim) continue;
                        UCM_CHECK(keys[static_cast<std::size_t>(d * cpu::kPanelKeys + i)] ==
                                  expected);
                    }
                }
            }
        }
    }
}

UCM_TEST(MultiplyHonoursDepthsAndRowOrder) {
    Random random(3);
    for (const Kernels* kernels : AvailableKernels()) {
        for (int trial = 0; trial < 60; ++trial) {
            const int64_t rows = random.Integer(1, 30);
            const int64_t depth = random.Integer(1, 70);
            const int64_t columns = random.Integer(1, 9) * kernels->width;
            const std::vector<float> a = random.Normals(rows * depth);
            const std::vector<float> b = random.Normals(depth * columns);
            const std::vector<float> start = random.Normals(rows * columns);
            std::vector<int32_t> depths;
            for (int64_t r = 0; r < rows; ++r) {
                depths.push_back(
                    static_cast<int32_t>(std::min(depth, depth * r / rows + trial % 3)));
            }
            const bool accumulate = trial % 2 == 0;
            std::vector<float> all = start;
            std::vector<float> single = start;
            kernels->multiply({a.data(),
                               depth,
                               b.data(),
                               columns,
                               all.data(),
                               columns,
                               rows,
                               columns,
                               depths.data(),
                               0,
                               accumulate,
                               {}});
            for (int64_t r = 0; r < rows; ++r) {
                kernels->multiply({a.data() + r * depth,
                                   depth,
                                   b.data(),
                                   columns,
                                   single.data() + r * columns,
                                   columns,
                                   1,
                                   columns,
                                   depths.data() + r,
                                   0,
                                   accumulate,
                                   {}});
                for (int64_t c = 0; c < columns; ++c) {
                    const auto at = static_cast<std::size_t>(r * columns + c);
                    double expected = accumulate ? start[at] : 0.0;
                    for (int64_t k = 0; k < depths[static_cast<std::size_t>(r)]; ++k) {
                        expected += double{a[static_cast<std::size_t>(r * depth + k)]} *
                                    b[static_cast<std::size_t>(k * columns + c)];
                    }
                    UCM_CHECK(std::abs(all[at] - expected) < 1e-4);
                }
            }
            UCM_CHECK(std::memcmp(all.data(), single.data(), all.size() * sizeof(float)) == 0);
        }
    }
}

UCM_TEST(SoftmaxIsAccurate) {
    Random random(4);
    for (const Kernels* kernels : AvailableKernels()) {
        for (const int64_t count : {1, 2, 15, 16, 17, 100, 256}) {
            std::vector<float> x = random.Normals(256 + 16);
            for (float& value : x) value *= 20.0f;
            for (auto i = static_cast<std::size_t>(count); i < x.size(); ++i) x[i] = NAN;
            const std::vector<float> scores = x;
            float max = 0.0f;
            float sum = 0.0f;
            kernels->softmax(x.data(), count, &max, &sum);
            const float greatest = *std::max_element(scores.begin(), scores.begin() + count);
            UCM_CHECK(max == greatest);
            double expected_sum = 0.0;
            for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
                const double expected = std::exp(double{scores[i]} - greatest);
                expected_sum += expected;
                // The argument's own rounding is part of the fp32 formula.
                const double exact = std::exp(static_cast<double>(scores[i] - greatest));
                UCM_CHECK(std::abs(x[i] - exact) <= 2e-7 * exact + 1.2e-38);
            }
            UCM_CHECK(std::abs(sum - expected_sum) < 1e-5 * expected_sum);
        }
        float max = 0.0f;
        float sum = 0.0f;
        std::vector<float> single(16, 3.0f);
        kernels->softmax(single.data(), 1, &max, &sum);
        UCM_CHECK(single[0] == 1.0f && sum == 1.0f && max == 3.0f);
    }
}

UCM_TEST(MaxAndMagnitudeSeeEveryElement) {
    Random random(5);
    for (const Kernels* kernels : AvailableKernels()) {
        for (const int64_t count : {1, 7, 16, 33, 100}) {
            std::vector<float> x = random.Normals(count);
            for (int64_t i = 0; i < count; ++i) {
                std::vector<float> y = x;
                y[static_cast<std::size_t>(i)] = -50.0f;
                UCM_CHECK(std::bit_cast<float>(kernels->max_magnitude_bits(y.data(), count)) ==
                          50.0f);
                y[static_cast<std::size_t>(i)] = 50.0f;
                UCM_CHECK(kernels->max_value(y.data(), count) == 50.0f);
                y[static_cast<std::size_t>(i)] = NAN;
                UCM_CHECK(kernels->max_magnitude_bits(y.data(), count) > 0x7f800000u);
                const float max = kernels->max_value(y.data(), count);
                UCM_CHECK(count == 1 ? max == -INFINITY : max > -50.0f);
            }
        }
    }
}

UCM_TEST(Int4BeatsPlainRounding) {
    Random random(6);
    for (const Kernels* kernels : AvailableKernels()) {
        for (int trial = 0; trial < 300; ++trial) {
            const std::vector<float> x = random.Normals(cpu::kInt4Block);
            uint8_t packed[16];
            float scale = 0.0f;
            kernels->quantize_int4(x.data(), packed, &scale);
            float extreme = 0.0f;
            for (const float value : x) {
                if (std::abs(value) > std::abs(extreme)) extreme = value;
            }
            double error = 0.0;
            double plain_error = 0.0;
            const double plain = extreme / -8.0;
            for (std::size_t i = 0; i < x.size(); ++i) {
                const int nibble = i % 2 == 0 ? packed[i / 2] & 15 : packed[i / 2] >> 4;
                error += std::pow(x[i] - scale * (nibble - 8), 2);
                const double q = std::clamp(std::nearbyint(x[i] / plain), -8.0, 7.0);
                plain_error += std::pow(x[i] - plain * q, 2);
            }
            UCM_CHECK(error <= plain_error * 1.0001);
        }
        const std::vector<float> zeros(cpu::kInt4Block, 0.0f);
        uint8_t packed[16];
        float scale = 1.0f;
        kernels->quantize_int4(zeros.data(), packed, &scale);
        UCM_CHECK(scale == 0.0f);
        for (const uint8_t byte : packed) UCM_CHECK(byte == 0x88);
    }
}

UCM_TEST(NormalValuesAreTheSameEverywhere) {
    constexpr int64_t kCount = 100003;
    std::vector<float> expected(kCount);
    cpu::kScalarKernels.fill_normal(42, 0, 0.5f, expected.data(), kCount);
    double sum = 0.0, squares = 0.0, fourths = 0.0;
    for (const float value : expected) {
        UCM_CHECK(std::isfinite(value));
        sum += value;
        squares += value * value;
        fourths += std::pow(value, 4);
    }
    const double variance = squares / kCount;
    UCM_CHECK(std::abs(sum / kCount) < 0.01);
    UCM_CHECK(std::abs(variance - 0.25) < 0.005);
    UCM_CHECK(std::abs(fourths / kCount / (variance * variance) - 3.0) < 0.1);
    for (const Kernels* kernels : AvailableKernels()) {
        std::vector<float> values(kCount);
        kernels->fill_normal(42, 0, 0.5f, values.data(), kCount);
        UCM_CHECK_MESSAGE(values == expected, kernels->name);
        kernels->fill_normal(42, 1001, 0.5f, values.data(), 50);
        for (std::size_t i = 0; i < 50; ++i) UCM_CHECK(values[i] == expected[1001 + i]);
        kernels->fill_normal(43, 0, 0.5f, values.data(), kCount);
        int equal = 0;
        for (std::size_t i = 0; i < kCount; ++i) equal += values[i] == expected[i];
        UCM_CHECK(equal < 20);
    }
}

}  // namespace ucm::test
