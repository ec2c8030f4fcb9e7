#include "esa/block_scorer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "esa/block_vectors.h"

namespace ucm::esa {
namespace {

/** SplitMix64's finalizer: a bijection whose outputs look random. */
uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int64_t RoundUp(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

/** Unsigned numbers that fall as floats, which are no NaN, rise. */
uint32_t FallingOrder(float x) {
    // The sum makes one zero of both.
    const auto bits = std::bit_cast<uint32_t>(x + 0.0f);
    return bits >> 31 != 0 ? bits : ~bits & 0x7fffffffu;
}

}  // namespace

void BlockScorer::Choose(const Prompt& prompt, int64_t layer, const Observation& seen,
                         std::span<const int32_t> kept, uint64_t number, Scratch& scratch,
                         std::vector<int32_t>* chosen) const {
    if (prompt.budget().IsChoice()) Vote(prompt, layer, seen, kept, number, scratch);
    TakeBest(prompt.budget(), scratch, chosen);
}

void BlockScorer::ChooseByMass(const Prompt& prompt, int64_t layer, const Observation& seen,
                                const KvArena& arena, std::span<const int32_t> blocks,
                                Scratch& scratch, std::vector<int32_t>* chosen) const {
    const auto keys = BlockVectors::Keys(arena);
    scratch.panel.Reserve(keys.depth() * cpu::kPanelKeys);
    const auto panel = [&](int64_t kv_head, int64_t index) {
        keys.PackPanel(blocks, layer, kv_head, index, tiles_, scratch.panel.data());
        return scratch.panel.data();
    };
    std::vector<int32_t> all(blocks.size());
    std::iota(all.begin(), all.end(), 0);
    scratch.votes.assign(blocks.size(), 0.0f);
    VoteByRows({keys.per_block(), keys.depth(), true, panel}, layer, seen, all, scratch);
    CarryToNext(&scratch.votes);
    TakeBest(prompt.budget(), scratch, chosen);
}

void BlockScorer::TakeBest(const SparseBudget& budget, Scratch& scratch,
                           std::vector<int32_t>* chosen) {
    const auto candidates = static_cast<std::size_t>(budget.candidates);
    const auto top_k = static_cast<std::size_t>(budget.top_k);
    std::vector<uint64_t>& order = scratch.order;
    order.resize(candidates);
    std::iota(order.begin(), order.end(), 0);
    if (budget.IsChoice()) {
        for (std::size_t i = 0; i < candidates; ++i) {
            order[i] |= uint64_t{FallingOrder(scratch.votes[i])} << 32;
        }
        std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top_k),
                         order.end());
    }
    chosen->resize(top_k);
    std::transform(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top_k),
                   chosen->begin(), [](uint64_t key) { return static_cast<int32_t>(key); });
    std::sort(chosen->begin(), chosen->end());
}

void BlockScorer::Vote(const Prompt& prompt, int64_t layer, const Observation& seen,
                       std::span<const int32_t> kept, uint64_t number, Scratch& scratch) const {
    scratch.votes.assign(static_cast<std::size_t>(prompt.budget().candidates), 0.0f);
    if (options_.score == Score::kRandom) return VoteAtRandom(prompt, layer, number, scratch);
    const auto panel = [&](int64_t kv_head, int64_t index) {
        return prompt.Panel(layer, kv_head, index);
    };
    const bool are_keys = options_.score == Score::kOracle;
    VoteByRows({prompt.rows_per_block(), prompt.depth(), are_keys, panel}, layer, seen, kept,
               scratch);
    if (!are_keys) CarryToNext(&scratch.votes);
}

void BlockScorer::VoteByRows(const Rows& rows, int64_t layer, const Observation& seen,
                             std::span<const int32_t> kept, Scratch& scratch) const {
    for (int64_t head = 0; head < shape_.num_kv_heads; ++head) {
        VoteOfHead(rows, layer, head, seen, kept, scratch);
    }
    // A comparison with NaN is no order.
    for (float& vote : scratch.votes) vote = std::isnan(vote) ? -1.0f : vote;
}

void BlockScorer::CarryToNext(std::vector<float>* votes) const {
    const auto share = static_cast<float>(options_.next_share);
    for (std::size_t block = votes->size(); block-- > 1;) {
        (*votes)[block] = std::max((*votes)[block], share * (*votes)[block - 1]);
    }
}

void BlockScorer::VoteAtRandom(const Prompt& prompt, int64_t layer, uint64_t number,
                               Scratch& scratch) const {
    uint64_t state = Mix(options_.seed);
    for (const uint64_t word : {static_cast<uint64_t>(prompt.id()), number,
                                static_cast<uint64_t>(layer)}) {
        state = Mix(state + word);
    }
    for (float& vote : scratch.votes) {
        state += 0x9e3779b97f4a7c15u;
        vote = static_cast<float>(Mix(state) >> 40);
    }
}

void BlockScorer::TransformQuery(const float* query, cpu::Representation kind,
                                 float* out) const {
    const int64_t dim = shape_.head_dim;
    for (int64_t d = 0; d < dim; ++d) {
        const float q = query[d];
        out[d] = kind == cpu::Representation::kMinMax ? std::max(q, 0.0f) : q;
    }
    if (kind == cpu::Representation::kMean) return;
    for (int64_t d = 0; d < dim; ++d) {
        const float q = query[d];
        out[dim + d] = kind == cpu::Representation::kMinMax ? std::min(q, 0.0f) : std::fabs(q);
    }
}

int64_t BlockScorer::ScoreRows(const Rows& rows, int64_t layer, int64_t kv_head,
                               const Observation& seen, Scratch& scratch) const {
    const int64_t group = shape_.group_size();
    const int64_t count = static_cast<int64_t>(scratch.votes.size()) * rows.per_block;
    const int64_t panels = (count + cpu::kPanelKeys - 1) / cpu::kPanelKeys;
    const int64_t stride = panels * cpu::kPanelKeys;
    const int64_t first_head = layer * shape_.num_query_heads + kv_head * group;
    const auto kind =
        rows.are_keys ? cpu::Representation::kMean : shape_.representation.kind;
    scratch.queries.Reserve(group * rows.depth);
    scratch.scores.Reserve(group * stride);
    for (int64_t g = 0; g < group; ++g) {
        TransformQuery(seen.queries.data() + (first_head + g) * shape_.head_dim, kind,
                       scratch.queries.data() + g * rows.depth);
    }
    const float* queries = scratch.queries.data();
    if (tiles_.word_values > 1) {
        scratch.query_words.Reserve(group * rows.depth / tiles_.word_values);
        kernels_.from_float(shape_.dtype, queries, scratch.query_words.data(), group * rows.depth);
        queries = scratch.query_words.data();
    }
    for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t first = panel * cpu::kPanelKeys;
        tiles_.multiply({.a = queries,
                         .lda = rows.depth / tiles_.word_values,
                         .b = rows.panel(kv_head, panel),
                         .ldb = cpu::kPanelKeys,
                         .c = scratch.scores.data() + first,
                         .ldc = stride,
                         .rows = group,
                         .columns = RoundUp(std::min(cpu::kPanelKeys, count - first),
                                            kernels_.width),
                         .depths = nullptr,
                         .depth = rows.depth,
                         .accumulate = false,
                         .next = {nullptr, 0, Dtype::kFloat32, 0}});
    }
    return stride;
}

void BlockScorer::VoteOfHead(const Rows& rows, int64_t layer, int64_t kv_head,
                             const Observation& seen, std::span<const int32_t> kept,
                             Scratch& scratch) const {
    const int64_t group = shape_.group_size();
    const int64_t stride = ScoreRows(rows, layer, kv_head, seen, scratch);
    const bool takes_max = options_.group_reduce == GroupReduce::kMax && !rows.are_keys;
    std::vector<float>& votes = scratch.head_votes;
    votes.assign(scratch.votes.size(), 0.0f);
    const int64_t count = static_cast<int64_t>(votes.size()) * rows.per_block;
    for (int64_t g = 0; g < group; ++g) {
        float* weights = scratch.scores.data() + g * stride;
        float max = 0.0f;
        float sum = 0.0f;
        kernels_.softmax(weights, count, &max, &sum);
        if (rows.per_block > 1) {
            for (std::size_t block = 0; block < votes.size(); ++block) {
                const float* first = weights + static_cast<int64_t>(block) * rows.per_block;
                weights[block] = std::accumulate(first, first + rows.per_block, 0.0f);
            }
        }
        if (rows.are_keys) {
            // What the row attended besides candidates has its share too.
            const auto head = static_cast<std::size_t>(
                layer * shape_.num_query_heads + kv_head * group + g);
            float others = seen.sums[head] * std::exp(seen.maxima[head] - max);
            for (const int32_t candidate : kept) others -= weights[candidate];
            sum += std::max(others, 0.0f);
        }
        const float share = 1.0f / sum;
        for (std::size_t block = 0; block < votes.size(); ++block) {
            const float vote = weights[block] * share;
            votes[block] = takes_max ? std::max(votes[block], vote) : votes[block] + vote;
        }
    }
    for (std::size_t block = 0; block < votes.size(); ++block) {
        scratch.votes[block] += votes[block];
    }
}

}  // namespace ucm::esa
