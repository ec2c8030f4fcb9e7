#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "attention/paged_attention.h"
#include "test/random.h"

namespace ucm::test {

/** Random inputs of some sequences through one layer, and the ways to run them. */
struct AttentionCase {
    ArenaShape shape;
    Rope rope;
    bool norms;
    /** Tokens of each sequence. */
    std::vector<int64_t> lengths;
    /** [token][heads * head_dim], all sequences one after another. */
    std::vector<float> q, k, v;
    std::vector<float> q_norm, k_norm;

    static AttentionCase Make(Random& random, const ArenaShape& shape, bool rope, bool norms,
                              const std::vector<int64_t>& lengths);

    int64_t tokens() const;
    int64_t first_token(std::size_t sequence) const;
    int64_t q_width() const { return shape.num_query_heads * shape.head_dim; }
    int64_t kv_width() const { return shape.num_kv_heads * shape.head_dim; }
};

/** Tokens [begin, end) of one sequence. */
struct Chunk {
    std::size_t sequence;
    int64_t begin;
    int64_t end;
};

/** Runs a case step by step over an arena whose blocks are dealt out in random order. */
class AttentionRunner {
  public:
    /** With `poison`, every byte of the arena is set before anything is written: all values are
     * NaN. */
    AttentionRunner(const AttentionCase& input, const cpu::Kernels& kernels, ThreadPool& pool,
                    uint32_t block_seed, bool poison);

    /** One step; results go to the chunk's tokens of output(). */
    void Step(const std::vector<Chunk>& chunks);
    /** [token][query heads * head_dim] */
    const std::vector<float>& output() const { return output_; }
    PagedAttention& attention() { return *attention_; }
    KvArena& arena() { return *arena_; }

  private:
    const AttentionCase& input_;
    std::unique_ptr<KvArena> arena_;
    std::unique_ptr<PagedAttention> attention_;
    std::vector<std::vector<int32_t>> block_tables_;
    std::vector<float> output_;
};

/** The whole case in one step. */
std::vector<Chunk> WholeSequences(const AttentionCase& input);

}  // namespace ucm::test
