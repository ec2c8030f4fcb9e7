// Paged attention against the float64 oracle, and bit equality of every way to run the same rows.
#include <cmath>
#include <cstring>
#include <string>

#include "cpu/dispatch.h"
#include "cpu/reference.h"
#include "test/attention_case.h"
#include "test/check.h"

namespace ucm::test {
namespace {

/** Greatest difference from the oracle, as a part of the greatest value: rounding of fp32 sums. */
constexpr double kTolerance = 2e-5;
/** A key that differs from the oracle's in its last fp32 bit may round the other way at 16 bits. */
constexpr double kHalfTolerance = 2e-3;
/** Queries and weights of bfloat16 besides: each rounding is up to 2^-9 of its number. */
constexpr double kPairTolerance = 8e-3;

ArenaShape MakeShape(int64_t head_dim, int64_t kv_heads, int64_t group, int64_t block_size,
                     Dtype dtype, const std::vector<int64_t>& lengths) {
    int64_t blocks = 3;
    for (const int64_t length : lengths) blocks += (length + block_size - 1) / block_size;
    return {.num_blocks = blocks,
            .num_layers = 2,
            .block_size = block_size,
            .num_query_heads = kv_heads * group,
            .num_kv_heads = kv_heads,
            .head_dim = head_dim,
            .dtype = dtype};
}

/** Compares some rows of every sequence, the first and the last among them. */
void CheckAgainstReference(const AttentionCase& input, const std::vector<float>& output,
                           Random& random, const cpu::Kernels& kernels, const std::string& what) {
    const Dtype dtype = input.shape.dtype;
    const bool pairs = dtype == Dtype::kBfloat16 && kernels.pairs != nullptr;
    const double tolerance = pairs                       ? kPairTolerance
                             : dtype == Dtype::kFloat32 ? kTolerance
                                                         : kHalfTolerance;
    const int64_t dim = input.shape.head_dim;
    for (std::size_t s = 0; s < input.lengths.size(); ++s) {
        const int64_t first = input.first_token(s);
        for (int sample = 0; sample < 5; ++sample) {
            const int64_t position = sample == 0   ? 0
                                     : sample == 1 ? input.lengths[s] - 1
                                                   : random.Integer(0, input.lengths[s] - 1);
            const int64_t head = random.Integer(0, input.shape.num_query_heads - 1);
            const int64_t kv_offset =
                first * input.kv_width() + head / input.shape.group_size() * dim;
            const int64_t row = first + position;
            const std::vector<double> expected =
                cpu::ReferenceAttention({.head_dim = dim,
                                         .position = position,
                                         .q = input.q.data() + row * input.q_width() + head * dim,
                                         .k = input.k.data() + kv_offset,
                                         .v = input.v.data() + kv_offset,
                                         .stride = input.kv_width(),
                                         .inv_freq = input.rope.inv_freq,
                                         .rope_scale = input.rope.scale,
                                         .q_norm = input.norms ? input.q_norm.data() : nullptr,
                                         .k_norm = input.norms ? input.k_norm.data() : nullptr,
                                         .norm_eps = 1e-6,
                                         .dtype = input.shape.dtype});
            double greatest = 0.0;
            for (const double value : expected) greatest = std::max(greatest, std::abs(value));
            for (int64_t d = 0; d < dim; ++d) {
                const double actual =
                    output[static_cast<std::size_t>(row * input.q_width() + head * dim + d)];
                const double error = std::abs(actual - expected[static_cast<std::size_t>(d)]);
                UCM_CHECK_MESSAGE(error <= tolerance * greatest,
                                  what + ", position " + std::to_string(position) + ": " +
                                      std::to_string(error / greatest));
            }
        }
    }
}

void CheckSameBits(const std::vector<float>& a, const std::vector<float>& b,
                   const std::string& what) {
    UCM_CHECK(a.size() == b.size());
    UCM_CHECK_MESSAGE(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0, what);
}

std::vector<float> RunInChunks(const AttentionCase& input, const cpu::Kernels& kernels,
                               ThreadPool& pool, int64_t chunk, uint32_t block_seed) {
    AttentionRunner runner(input, kernels, pool, block_seed, true);
    for (std::size_t s = 0; s < input.lengths.size(); ++s) {
        for (int64_t begin = 0; begin < input.lengths[s]; begin += chunk) {
            runner.Step({{s, begin, std::min(input.lengths[s], begin + chunk)}});
        }
    }
    return runner.output();
}

/** Random steps that mix prefill chunks and decodes of several sequences, until all are done. */
std::vector<float> RunMixed(const AttentionCase& input, const cpu::Kernels& kernels,
                            ThreadPool& pool, uint32_t seed) {
    Random random(seed);
    AttentionRunner runner(input, kernels, pool, seed, true);
    std::vector<int64_t> done(input.lengths.size(), 0);
    for (;;) {
        std::vector<Chunk> chunks;
        for (std::size_t s = 0; s < input.lengths.size(); ++s) {
            if (done[s] == input.lengths[s] || random.Integer(0, 2) == 0) continue;
            const int64_t rows = random.Pick<int64_t>({1, 1, 3, 20, 70, 300});
            const int64_t end = std::min(input.lengths[s], done[s] + rows);
            chunks.push_back({s, done[s], end});
            done[s] = end;
        }
        std::shuffle(chunks.begin(), chunks.end(), random.engine());
        if (!chunks.empty()) runner.Step(chunks);
        if (done == input.lengths) return runner.output();
    }
}

/** Keys and values from `seen` on are poison: rows before them are what they are without it. */
void CheckUnseen(const AttentionCase& input, const cpu::Kernels& kernels, ThreadPool& pool,
                 int64_t seen) {
    const int64_t length = input.lengths[0];
    AttentionRunner clean(input, kernels, pool, 1, false);
    clean.Step({{0, 0, length}});
    AttentionCase poisoned = input;
    for (int64_t i = seen * input.kv_width(); i < length * input.kv_width(); ++i) {
        poisoned.k[static_cast<std::size_t>(i)] = std::nanf("");
        poisoned.v[static_cast<std::size_t>(i)] = INFINITY;
    }
    AttentionRunner runner(poisoned, kernels, pool, 2, true);
    runner.Step({{0, 0, length}});
    const auto rows = static_cast<std::size_t>(seen * input.q_width());
    UCM_CHECK_MESSAGE(
        std::memcmp(clean.output().data(), runner.output().data(), rows * sizeof(float)) == 0,
        kernels.name);
    UCM_CHECK(std::isnan(runner.output().back()));
}

}  // namespace

UCM_TEST(AttentionMatchesReference) {
    Random random(1);
    ThreadPool pool(2);
    const std::vector<Dtype> dtypes = {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16};
    for (const int64_t head_dim : {32, 40, 64, 80, 96, 128, 200, 256}) {
        for (const int64_t group : {1, 2, 7, 8}) {
            const std::vector<int64_t> lengths = {random.Integer(1, 40), random.Integer(250, 330),
                                                  1};
            const Dtype dtype = random.Pick(dtypes);
            const int64_t block_size = random.Pick<int64_t>({8, 16, 32, 128, 256});
            const ArenaShape shape =
                MakeShape(head_dim, random.Integer(1, 3), group, block_size, dtype, lengths);
            const bool rope = random.Integer(0, 3) > 0;
            const AttentionCase input =
                AttentionCase::Make(random, shape, rope, random.Integer(0, 1) == 1, lengths);
            for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
                AttentionRunner runner(input, *kernels, pool, 1, true);
                runner.Step(WholeSequences(input));
                CheckAgainstReference(input, runner.output(), random, *kernels,
                                      std::string(kernels->name) + " head dim " +
                                          std::to_string(head_dim) + ", group " +
                                          std::to_string(group));
            }
        }
    }
}

UCM_TEST(AttentionMatchesReferenceOverManySegments) {
    Random random(2);
    ThreadPool pool(3);
    const std::vector<int64_t> lengths = {1100};
    const ArenaShape shape = MakeShape(64, 1, 7, 16, Dtype::kFloat32, lengths);
    const AttentionCase input = AttentionCase::Make(random, shape, true, false, lengths);
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        AttentionRunner runner(input, *kernels, pool, 1, true);
        runner.Step({{0, 0, 1099}});
        runner.Step({{0, 1099, 1100}});
        CheckAgainstReference(input, runner.output(), random, *kernels, kernels->name);
    }
}

UCM_TEST(AttentionBitsDoNotDependOnTheBatch) {
    Random random(3);
    const std::vector<int64_t> lengths = {1, 17, 300};
    const std::vector<Dtype> dtypes = {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16};
    for (const Dtype dtype : dtypes) {
        const int64_t head_dim = random.Pick<int64_t>({40, 64, 128});
        const int64_t group = random.Pick<int64_t>({1, 2, 7});
        const ArenaShape shape = MakeShape(head_dim, 2, group, 16, dtype, lengths);
        const AttentionCase input = AttentionCase::Make(random, shape, true, true, lengths);
        for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
            ThreadPool one_thread(1);
            const std::vector<float> expected = RunInChunks(input, *kernels, one_thread, 1, 7);
            for (const float value : expected) UCM_CHECK(std::isfinite(value));
            for (const int threads : {1, 2, 4}) {
                ThreadPool pool(threads);
                const std::string what =
                    std::string(kernels->name) + ", head dim " + std::to_string(head_dim) +
                    ", group " + std::to_string(group) + ", threads " + std::to_string(threads);
                for (const int64_t chunk : {7, 64, 1000}) {
                    CheckSameBits(RunInChunks(input, *kernels, pool, chunk, 8 + threads), expected,
                                  what + ", chunk " + std::to_string(chunk));
                }
                AttentionRunner whole(input, *kernels, pool, 99, true);
                whole.Step(WholeSequences(input));
                CheckSameBits(whole.output(), expected, what + ", one batch");
                CheckSameBits(RunMixed(input, *kernels, pool, 5), expected, what + ", mixed");
            }
        }
    }
}

/**
 * A decode over many segments splits between threads; one thread computes it whole, and a prefill in
 * tiles of many rows.
 */
UCM_TEST(AttentionBitsOfSplitDecode) {
    Random random(4);
    const auto check = [&](int64_t head_dim, int64_t group, int64_t block_size,
                           const std::vector<int64_t>& lengths) {
        const ArenaShape shape =
            MakeShape(head_dim, 2, group, block_size, Dtype::kBfloat16, lengths);
        const AttentionCase input = AttentionCase::Make(random, shape, true, false, lengths);
        for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
            ThreadPool one_thread(1);
            AttentionRunner whole(input, *kernels, one_thread, 1, true);
            whole.Step(WholeSequences(input));
            for (const int threads : {1, 2, 4}) {
                ThreadPool pool(threads);
                AttentionRunner runner(input, *kernels, pool, static_cast<uint32_t>(threads), true);
                const int64_t first = lengths[0] - 5;
                const int64_t second = lengths[1] - 5;
                runner.Step({{0, 0, first}, {1, 0, second}});
                for (int64_t i = 0; i < 5; ++i) {
                    runner.Step({{0, first + i, first + i + 1}, {1, second + i, second + i + 1}});
                }
                CheckSameBits(runner.output(), whole.output(),
                              std::string(kernels->name) + ", head dim " +
                                  std::to_string(head_dim) + ", group " + std::to_string(group));
            }
        }
    };
    check(64, 2, 32, {1300, 600});
    check(64, 7, 16, {530, 270});
    check(128, 8, 16, {530, 270});
    check(64, 9, 8, {530, 270});
}

/** The last block's unwritten slots, and a sequence mate's later rows, may hold anything. */
UCM_TEST(AttentionIgnoresWhatARowDoesNotSee) {
    Random random(5);
    ThreadPool pool(2);
    const std::vector<int64_t> lengths = {45};
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16}) {
        const ArenaShape shape = MakeShape(64, 2, 2, 16, dtype, lengths);
        const AttentionCase input = AttentionCase::Make(random, shape, true, false, lengths);
        for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
            // An odd and an even number of keys to see.
            for (const int64_t seen : {29, 30}) CheckUnseen(input, *kernels, pool, seen);
        }
    }
}

}  // namespace ucm::test
