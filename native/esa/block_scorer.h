#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "attention/kv_arena.h"
#include "common/aligned_buffer.h"
#include "cpu/kernels.h"
#include "esa/prompt.h"
#include "esa/sparse_options.h"

namespace ucm::esa {

/** What one row asked and found; all layers, or one of them. */
struct Observation {
    /** [layer][query head][head_dim], scaled for the softmax. */
    std::vector<float> queries;
    /** [layer][query head]: greatest score and sum of exponentials of the keys that it attended. */
    std::vector<float> maxima;
    std::vector<float> sums;
};

/** Ranks the candidates of a prompt, layer by layer. Any number of threads may use one. */
class BlockScorer {
  public:
    /** Buffers of one thread. */
    struct Scratch {
        AlignedBuffer<float> queries;
        AlignedBuffer<float> query_words;
        AlignedBuffer<float> scores;
        AlignedBuffer<float> panel;
        std::vector<float> head_votes;
        std::vector<float> votes;
        /** Votes and numbers of the candidates, in one word each. */
        std::vector<uint64_t> order;
    };

    BlockScorer(const ArenaShape& shape, const SparseOptions& options, const cpu::Kernels& kernels)
        : shape_(shape),
          options_(options),
          kernels_(kernels),
          tiles_(cpu::TilesFor(kernels, shape.dtype)) {}

    /**
     * The prompt's top_k candidates for a layer, rising. `kept` are the candidates that the
     * observation's row attended, and `number` counts the sequence's selections.
     */
    void Choose(const Prompt& prompt, int64_t layer, const Observation& seen,
                std::span<const int32_t> kept, uint64_t number, Scratch& scratch,
                std::vector<int32_t>* chosen) const;

    /**
     * The same by true mass, for a row that attended all candidates while they are in `blocks` of the
     * arena: their keys are read instead of their descriptions.
     */
    void ChooseByMass(const Prompt& prompt, int64_t layer, const Observation& seen,
                      const KvArena& arena, std::span<const int32_t> blocks, Scratch& scratch,
                      std::vector<int32_t>* chosen) const;

    /** The votes by which Choose ranks, [candidates] in scratch.votes. */
    void Vote(const Prompt& prompt, int64_t layer, const Observation& seen,
              std::span<const int32_t> kept, uint64_t number, Scratch& scratch) const;

  private:
    /** The vectors that the candidates of a layer are scored by. */
    struct Rows {
        int64_t per_block;
        int64_t depth;
        /** Keys, whose scores are true ones. */
        bool are_keys;
        /** Of a KV head: [words of depth][kPanelKeys]. */
        std::function<const float*(int64_t kv_head, int64_t panel)> panel;
    };

    /** Adds the votes of all KV heads to scratch.votes. */
    void VoteByRows(const Rows& rows, int64_t layer, const Observation& seen,
                    std::span<const int32_t> kept, Scratch& scratch) const;
    /** Scores of a KV head's queries, [group][rows] with some room behind; returns their stride. */
    int64_t ScoreRows(const Rows& rows, int64_t layer, int64_t kv_head, const Observation& seen,
                      Scratch& scratch) const;
    void VoteOfHead(const Rows& rows, int64_t layer, int64_t kv_head, const Observation& seen,
                    std::span<const int32_t> kept, Scratch& scratch) const;
    /** The top_k candidates by scratch.votes, rising. */
    static void TakeBest(const SparseBudget& budget, Scratch& scratch,
                         std::vector<int32_t>* chosen);
    /**
     * Who reads on needs the block after the one that was read: the votes are of a query that is one
     * step or more behind those that will attend.
     */
    void CarryToNext(std::vector<float>* votes) const;
    void VoteAtRandom(const Prompt& prompt, int64_t layer, uint64_t number, Scratch& scratch) const;
    /** The query, in the form whose product with a description is its score. */
    void TransformQuery(const float* query, cpu::Representation kind, float* out) const;

    const ArenaShape shape_;
    const SparseOptions options_;
    const cpu::Kernels& kernels_;
    /** Of the arena's numbers, which panels are packed of. */
    const cpu::TileKernels tiles_;
};

}  // namespace ucm::esa
