// Dense layers with int8 weights against plain formulas, on every instruction set.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "cpu/dispatch.h"
#include "dense/int8_matrix.h"
#include "test/check.h"
#include "test/random.h"

namespace ucm::test {
namespace {

using cpu::kInt8Columns;
using cpu::kInt8Group;

/** A panel, and rows of bytes, of the greatest magnitudes or any. */
struct Operands {
    Operands(Random& random, int64_t rows, int64_t depth, bool extreme)
        : a(static_cast<std::size_t>(rows * depth)),
          panel(static_cast<std::size_t>(depth * kInt8Columns)),
          offsets(kInt8Columns),
          expected(static_cast<std::size_t>(rows * kInt8Columns)) {
        const auto draw = [&] {
            return extreme ? (random.Integer(0, 1) == 0 ? -127 : 127) : random.Integer(-127, 127);
        };
        for (uint8_t& value : a) value = static_cast<uint8_t>(draw() + 128);
        for (int64_t k = 0; k < depth; ++k) {
            for (int64_t n = 0; n < kInt8Columns; ++n) {
                const int64_t w = draw();
                panel[At(k, n)] = static_cast<int8_t>(w);
                offsets[static_cast<std::size_t>(n)] += static_cast<int32_t>(128 * w);
                for (int64_t r = 0; r < rows; ++r) {
                    const int64_t x = a[static_cast<std::size_t>(r * depth + k)] - 128;
                    expected[static_cast<std::size_t>(r * kInt8Columns + n)] +=
                        static_cast<int32_t>(x * w);
                }
            }
        }
    }

    static std::size_t At(int64_t k, int64_t n) {
        return static_cast<std::size_t>((k / kInt8Group * kInt8Columns + n) * kInt8Group +
                                        k % kInt8Group);
    }

    std::vector<uint8_t> a;
    std::vector<int8_t> panel;
    std::vector<int32_t> offsets;
    std::vector<int32_t> expected;
};

/** A linear layer with a bias, and what it is made of. */
struct Layer {
    Layer(const Compute& compute, Random& random, int64_t rows, int64_t cols)
        : weight(random.Normals(rows * cols)), bias(random.Normals(rows)) {
        UCM_CHECK(Int8Matrix::Create(rows, cols, &matrix).ok());
        // In pieces that begin and end within panels.
        for (int64_t first = 0; first < rows; first += 45) {
            const int64_t count = std::min<int64_t>(45, rows - first);
            UCM_CHECK(matrix->SetRows(compute, weight.data() + first * cols, first, count).ok());
        }
        matrix->SetBias(bias);
    }

    /** Output n of `x` in float64, from weights as they are. */
    double Exact(const float* x, int64_t n) const {
        double sum = bias[static_cast<std::size_t>(n)];
        for (int64_t k = 0; k < matrix->cols(); ++k) {
            sum += double{x[k]} * weight[static_cast<std::size_t>(n * matrix->cols() + k)];
        }
        return sum;
    }

    std::vector<float> weight;
    std::vector<float> bias;
    std::unique_ptr<Int8Matrix> matrix;
};

/** Rounding of both sides of products of normal numbers, each within half a step of max / 127. */
double Tolerance(int64_t cols) { return 0.06 * std::sqrt(static_cast<double>(cols)) + 1e-4; }

}  // namespace

UCM_TEST(Int8SumsAreExact) {
    Random random(21);
    for (const bool extreme : {false, true}) {
        for (const int64_t rows : {1, 2, 3, 7, 12, 15, 16, 17, 31, 32, 33, 47, 95, 96}) {
            for (const int64_t depth : {64, 192, 4864}) {
                if (depth > 1000 && rows > 17) continue;
                const Operands operands(random, rows, depth, extreme);
                for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
                    std::vector<int32_t> sums(operands.expected.size(), -1);
                    kernels->multiply_int8({operands.a.data(), depth, rows, operands.panel.data(),
                                            operands.offsets.data(), depth, sums.data(),
                                            operands.panel.data()});
                    UCM_CHECK(sums == operands.expected);
                }
            }
        }
    }
}

UCM_TEST(RowsAreQuantizedToNearest) {
    Random random(22);
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        for (const int64_t count : {1, 15, 64, 75, 896}) {
            const int64_t padded = (count + cpu::kInt8Depth - 1) / cpu::kInt8Depth * cpu::kInt8Depth;
            std::vector<float> x = random.Normals(count);
            std::vector<uint8_t> out(static_cast<std::size_t>(padded), 7);
            const float scale = kernels->quantize_row(x.data(), count, out.data(), padded);
            const float max = std::abs(*std::max_element(
                x.begin(), x.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
            UCM_CHECK(scale == max / 127.0f);
            for (int64_t i = 0; i < padded; ++i) {
                const int q = out[static_cast<std::size_t>(i)] - 128;
                if (i >= count) {
                    UCM_CHECK(q == 0);
                } else {
                    UCM_CHECK(std::abs(x[static_cast<std::size_t>(i)] / scale - q) <= 0.5001);
                }
            }
            const std::vector<float> zeros(static_cast<std::size_t>(count), 0.0f);
            UCM_CHECK(kernels->quantize_row(zeros.data(), count, out.data(), padded) == 0.0f);
            UCM_CHECK(std::all_of(out.begin(), out.end(), [](uint8_t q) { return q == 128; }));
            for (const float bad : {INFINITY, -INFINITY, NAN}) {
                x.back() = bad;
                UCM_CHECK(
                    std::isnan(kernels->quantize_row(x.data(), count, out.data(), padded)));
            }
        }
    }
}

UCM_TEST(NormsFollowTheirFormula) {
    Random random(23);
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        for (const int64_t count : {1, 17, 896}) {
            const std::vector<float> x = random.Normals(count);
            const std::vector<float> y = random.Normals(count);
            double squares = 0.0;
            for (const float value : x) squares += double{value} * value;
            const double rms = std::sqrt(squares / static_cast<double>(count) + 1e-5);
            std::vector<float> out(x.size());
            kernels->norm_row(x.data(), y.data(), 1e-5f, out.data(), count);
            for (std::size_t i = 0; i < x.size(); ++i) {
                UCM_CHECK(std::abs(out[i] - x[i] / rms * y[i]) < 1e-5);
            }
        }
    }
}

UCM_TEST(GatesFollowTheirFormula) {
    Random random(25);
    constexpr int64_t kRows = 3;
    const std::vector<int32_t> sums(kRows * cpu::kInt8Columns, 1);
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        for (const int64_t count : {1, 17, 32}) {
            // Sums of 1, so that scales are values; some far beyond where exponentials over- and underflow.
            std::vector<float> gates = random.Normals(cpu::kInt8Columns);
            for (float& value : gates) value *= 60.0f;
            gates.front() = -1000.0f;
            const std::vector<float> ups = random.Normals(cpu::kInt8Columns);
            const std::vector<float> bias = random.Normals(cpu::kInt8Columns);
            const std::vector<float> scales = {1.0f, 0.0f, 0.25f};
            std::vector<float> out(static_cast<std::size_t>(kRows * count));
            cpu::Int8Result gate = {};
            gate.sums = sums.data();
            gate.rows = kRows;
            gate.columns = count;
            gate.row_scales = scales.data();
            gate.column_scales = gates.data();
            gate.bias = bias.data();
            cpu::Int8Result up = gate;
            up.column_scales = ups.data();
            up.out = out.data();
            up.ldo = count;
            kernels->gate_sums(gate, up);
            for (std::size_t i = 0; i < out.size(); ++i) {
                const std::size_t column = i % static_cast<std::size_t>(count);
                const double scale = scales[i / static_cast<std::size_t>(count)];
                const double x = scale * gates[column] + bias[column];
                const double expected =
                    x / (1.0 + std::exp(-x)) * (scale * ups[column] + bias[column]);
                UCM_CHECK(std::abs(out[i] - expected) <= 1e-5 * (1.0 + std::abs(expected)));
            }
        }
    }
}

UCM_TEST(Int8LayersComeNearExactOnes) {
    Random random(24);
    ThreadPool pool(3);
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        const Compute compute = {*kernels, pool};
        for (const auto& [outputs, width] : {std::pair<int64_t, int64_t>{1, 1}, {33, 75}, {200, 320}}) {
            const Layer gate(compute, random, outputs, width);
            const Layer up(compute, random, outputs, width);
            constexpr int64_t kRows = 5;
            const std::vector<float> x = random.Normals(kRows * width);
            Int8Rows rows;
            rows.Quantize(compute, x.data(), kRows, width);
            std::vector<float> out(static_cast<std::size_t>(kRows * outputs), 1.0f);
            std::vector<float> gated(out.size());
            Multiply(compute, rows, *gate.matrix, out.data(), true);
            MultiplyGated(compute, rows, *gate.matrix, *up.matrix, gated.data());
            for (int64_t r = 0; r < kRows; ++r) {
                for (int64_t n = 0; n < outputs; ++n) {
                    const auto at = static_cast<std::size_t>(r * outputs + n);
                    const double g = gate.Exact(x.data() + r * width, n);
                    const double u = up.Exact(x.data() + r * width, n);
                    UCM_CHECK(std::abs(out[at] - 1.0 - g) < Tolerance(width));
                    const double expected = g / (1.0 + std::exp(-g)) * u;
                    UCM_CHECK(std::abs(gated[at] - expected) <
                              2.0 * Tolerance(width) * (1.0 + std::abs(g) + std::abs(u)));
                }
            }
        }
    }
}

/** What a decoding row gets must be what it got in its prompt's chunk, whatever else was in it. */
UCM_TEST(Int8RowsDoNotDependOnOthers) {
    Random random(25);
    constexpr int64_t kRows = 131, kWidth = 137, kOutputs = 77;
    const std::vector<float> x = random.Normals(kRows * kWidth);
    const std::vector<float> norm = random.Normals(kWidth);
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        ThreadPool pool(4);
        const Compute compute = {*kernels, pool};
        const Layer layer(compute, random, kOutputs, kWidth);
        const auto products = [&](int64_t first, int64_t count, int threads) {
            pool.SetThreads(threads);
            Int8Rows rows;
            rows.QuantizeNormed(compute, x.data() + first * kWidth, count, kWidth, norm.data(), 1e-6f);
            std::vector<float> out(static_cast<std::size_t>(count * kOutputs));
            Multiply(compute, rows, *layer.matrix, out.data(), false);
            return out;
        };
        const std::vector<float> all = products(0, kRows, 4);
        for (const int64_t chunk : {1, 2, 16, 50, 97}) {
            for (int64_t first = 0; first < kRows; first += chunk) {
                const int64_t count = std::min(chunk, kRows - first);
                const std::vector<float> part = products(first, count, chunk == 1 ? 1 : 3);
                UCM_CHECK(std::equal(part.begin(), part.end(), all.begin() + first * kOutputs));
            }
        }
    }
}

UCM_TEST(Int8MatrixRefusesWhatItCannotHold) {
    std::unique_ptr<Int8Matrix> matrix;
    UCM_CHECK(Int8Matrix::Create(4, 65537, &matrix).message().find("[4, 65537]") !=
              std::string::npos);
    UCM_CHECK(!Int8Matrix::Create(0, 4, &matrix).ok());
    UCM_CHECK(Int8Matrix::Create(int64_t{1} << 31, 65536, &matrix).code() ==
              StatusCode::kOutOfMemory);
    ThreadPool pool(1);
    const Compute compute = {cpu::kScalarKernels, pool};
    UCM_CHECK(Int8Matrix::Create(3, 2, &matrix).ok());
    std::vector<float> values = {1.0f, 2.0f, 3.0f, NAN};
    UCM_CHECK(matrix->SetRows(compute, values.data(), 1, 2).message().find("row 1 of") !=
              std::string::npos);
}

/** A row that is not finite must not become a plausible one. */
UCM_TEST(Int8RowsThatAreNotFiniteGiveNan) {
    Random random(26);
    ThreadPool pool(1);
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        const Compute compute = {*kernels, pool};
        const Layer layer(compute, random, 40, 70);
        std::vector<float> x = random.Normals(2 * 70);
        x[71] = INFINITY;
        Int8Rows rows;
        rows.Quantize(compute, x.data(), 2, 70);
        std::vector<float> out(80);
        Multiply(compute, rows, *layer.matrix, out.data(), false);
        UCM_CHECK(std::none_of(out.begin(), out.begin() + 40, [](float y) { return std::isnan(y); }));
        UCM_CHECK(std::all_of(out.begin() + 40, out.end(), [](float y) { return std::isnan(y); }));
    }
}

}  // namespace ucm::test
