#include "test/attention_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "test/check.h"

namespace ucm::test {
namespace {

/** The layer that is used; the others show up wrong strides. */
constexpr int64_t kLayer = 1;

void AppendRows(std::vector<float>& out, const std::vector<float>& from, int64_t first,
                int64_t count, int64_t width) {
    const auto begin = from.begin() + first * width;
    out.insert(out.end(), begin, begin + count * width);
}

}  // namespace

AttentionCase AttentionCase::Make(Random& random, const ArenaShape& shape, bool rope, bool norms,
                                  const std::vector<int64_t>& lengths) {
    AttentionCase made;
    made.shape = shape;
    made.norms = norms;
    made.lengths = lengths;
    if (rope) {
        const int64_t half = shape.head_dim / 2;
        for (int64_t i = 0; i < half; ++i) {
            made.rope.inv_freq.push_back(
                std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half)));
        }
        made.rope.scale = 1.1;
    }
    made.q = random.Normals(made.tokens() * made.q_width());
    made.k = random.Normals(made.tokens() * made.kv_width());
    made.v = random.Normals(made.tokens() * made.kv_width());
    made.q_norm = random.Normals(shape.head_dim);
    made.k_norm = random.Normals(shape.head_dim);
    return made;
}

int64_t AttentionCase::tokens() const {
    return std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
}

int64_t AttentionCase::first_token(std::size_t sequence) const {
    return std::accumulate(lengths.begin(), lengths.begin() + static_cast<std::ptrdiff_t>(sequence),
                           int64_t{0});
}

AttentionRunner::AttentionRunner(const AttentionCase& input, const cpu::Kernels& kernels,
                                 ThreadPool& pool, uint32_t block_seed, bool poison)
    : input_(input) {
    UCM_CHECK(KvArena::Create(input.shape, &arena_).ok());
    if (poison) {
        std::memset(arena_->Keys(0, 0, 0), 0xff, static_cast<std::size_t>(arena_->bytes()));
    }
    attention_ = std::make_unique<PagedAttention>(*arena_, input.rope, kernels, pool);
    std::vector<int32_t> free_blocks(static_cast<std::size_t>(input.shape.num_blocks));
    std::iota(free_blocks.begin(), free_blocks.end(), 0);
    std::shuffle(free_blocks.begin(), free_blocks.end(), Random(block_seed).engine());
    for (const int64_t length : input.lengths) {
        const int64_t blocks = (length + input.shape.block_size - 1) / input.shape.block_size;
        UCM_CHECK(blocks <= static_cast<int64_t>(free_blocks.size()));
        block_tables_.emplace_back(free_blocks.end() - blocks, free_blocks.end());
        free_blocks.resize(free_blocks.size() - static_cast<std::size_t>(blocks));
    }
    output_.assign(static_cast<std::size_t>(input.tokens() * input.q_width()), -1.0f);
}

void AttentionRunner::Step(const std::vector<Chunk>& chunks) {
    std::vector<int32_t> query_start = {0};
    std::vector<int32_t> context_lens;
    std::vector<int32_t> block_start = {0};
    std::vector<int32_t> block_ids;
    std::vector<float> q, k, v;
    for (const Chunk& chunk : chunks) {
        const int64_t rows = chunk.end - chunk.begin;
        const int64_t first = input_.first_token(chunk.sequence) + chunk.begin;
        query_start.push_back(query_start.back() + static_cast<int32_t>(rows));
        context_lens.push_back(static_cast<int32_t>(chunk.end));
        const auto& table = block_tables_[chunk.sequence];
        block_ids.insert(block_ids.end(), table.begin(), table.end());
        block_start.push_back(static_cast<int32_t>(block_ids.size()));
        AppendRows(q, input_.q, first, rows, input_.q_width());
        AppendRows(k, input_.k, first, rows, input_.kv_width());
        AppendRows(v, input_.v, first, rows, input_.kv_width());
    }
    const Status status =
        attention_->BeginStep({query_start, context_lens, block_start, block_ids});
    UCM_CHECK_MESSAGE(status.ok(), status.message());
    std::vector<float> out(q.size());
    attention_->Forward({kLayer, q.data(), input_.q_width(), k.data(), input_.kv_width(), v.data(),
                         input_.kv_width(), input_.norms ? input_.q_norm.data() : nullptr,
                         input_.norms ? input_.k_norm.data() : nullptr, 1e-6f},
                        out.data());
    auto from = out.begin();
    for (const Chunk& chunk : chunks) {
        const int64_t first = input_.first_token(chunk.sequence) + chunk.begin;
        const int64_t count = (chunk.end - chunk.begin) * input_.q_width();
        std::copy(from, from + count, output_.begin() + first * input_.q_width());
        from += count;
    }
}

std::vector<Chunk> WholeSequences(const AttentionCase& input) {
    std::vector<Chunk> chunks;
    for (std::size_t s = 0; s < input.lengths.size(); ++s)
        chunks.push_back({s, 0, input.lengths[s]});
    return chunks;
}

}  // namespace ucm::test
