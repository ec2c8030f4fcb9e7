#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "attention/paged_attention.h"
#include "esa/sparse_attention.h"
#include "store/kv_store.h"
#include "test/random.h"

namespace ucm::test {

/**
 * Blocks in memory of its own, with faults at will: pieces that are missing, damaged or failing, and a
 * stall during which nothing is answered. Loads are answered by a thread.
 */
class FaultyStore final : public KvStore {
  public:
    explicit FaultyStore(const BlockShape& shape);
    ~FaultyStore() override;

    void Keep(const BlockKey& key, const uint8_t* block);
    /** What loads of this block's pieces come to from now on; nothing is written unless it is kOk. */
    void Break(const BlockKey& key, std::optional<BlockStatus> status);
    /** Nothing is answered until it is called with false. */
    void Stall(bool stalled);
    /** Whether a piece's first bytes are those of the one that was kept. */
    bool Holds(const BlockKey& key, int64_t layer, const uint8_t* piece, int64_t bytes);
    int64_t loaded_pieces() const { return loaded_.load(); }

    const BlockShape& shape() const override { return shape_; }
    void LoadPieces(std::vector<PieceTarget> pieces, BlocksDone done) override;

    // Sparse attention has no use for these.
    std::vector<Presence> LookupMemory(std::span<const BlockKey>) override { return {}; }
    void Lookup(std::vector<BlockKey>, LookupDone) override {}
    void Load(std::shared_ptr<LoadBatch>) override {}
    void Dump(std::span<const DumpSource>, BlocksDone) override {}
    void Pin(std::vector<BlockKey>, BlocksDone) override {}
    void Unpin(std::vector<BlockKey>) override {}
    void Forget(std::vector<BlockKey>, BlocksDone) override {}
    std::vector<TierStats> Stats() const override { return {}; }
    void Close(std::chrono::milliseconds) override {}

  private:
    struct Request {
        std::vector<PieceTarget> pieces;
        BlocksDone done;
    };

    void Serve();
    BlockStatus Answer(const PieceTarget& piece);

    const BlockShape shape_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::unordered_map<BlockKey, std::vector<uint8_t>, DigestHash> blocks_;
    std::unordered_map<BlockKey, BlockStatus, DigestHash> broken_;
    std::deque<Request> requests_;
    bool stalled_ = false;
    bool closed_ = false;
    std::atomic<int64_t> loaded_{0};
    std::thread thread_;
};

/** A model's random projections for one sequence. */
struct Story {
    Story(Random& random, const ArenaShape& shape, int64_t tokens);

    /** [layer][token][width] */
    std::vector<float> q, k, v;
    int64_t tokens;
};

/** One sequence of an EsaCase. */
struct Actor {
    int32_t id;
    esa::SparseBudget budget;
    std::shared_ptr<Story> story;
    /** Tokens that were fed, and those of them that are the prompt's. */
    int64_t tokens = 0;
    int64_t prompt = 0;
    std::vector<int32_t> blocks = {};
    std::vector<BlockKey> keys = {};
    bool entered = false;
    bool watched = false;
};

/** Sequences that decode over one arena, with a store behind it. */
class EsaCase {
  public:
    EsaCase(const ArenaShape& shape, const esa::SparseOptions& options,
            const cpu::Kernels& kernels, int threads);

    /** A sequence with a prompt, in blocks that are dealt out from the arena's end. */
    Actor Begin(Random& random, int32_t id, const esa::SparseBudget& budget, int64_t prompt,
                int64_t tokens);
    void FeedPrompt(Actor& actor, int64_t chunk = 1 << 20);
    void Store(const Actor& actor);
    void Watch(Actor& actor);
    /** Slots in the blocks of some candidates, or of nobody where it is -1. */
    void Enter(Actor& actor, const std::vector<int32_t>& slots);
    /** Gives its blocks back. */
    void End(Actor& actor);
    /** Decodes one token of each; outputs [actor][layer][query heads * head_dim]. */
    std::vector<std::vector<float>> Decode(const std::vector<Actor*>& actors);
    /** The candidates that a layer of an entered sequence has. */
    std::vector<int32_t> Chosen(const Actor& actor, int64_t layer) const;

    const ArenaShape shape;
    std::shared_ptr<ThreadPool> pool;
    std::shared_ptr<KvArena> arena;
    std::unique_ptr<PagedAttention> attention;
    std::shared_ptr<FaultyStore> store;
    std::shared_ptr<esa::SparseAttention> sparse;
    std::vector<int32_t> free_blocks;

  private:
    /** The next `rows` tokens of each actor. */
    std::vector<std::vector<float>> Run(const std::vector<Actor*>& actors, int64_t rows);
};

ArenaShape EsaShape(int64_t layers, int64_t kv_heads, int64_t group, int64_t head_dim, Dtype dtype,
                    RepresentationShape representation, int64_t block_size = 16,
                    int64_t blocks = 64);

/** Rotary embedding of the cases. */
Rope EsaRope(int64_t head_dim);

/**
 * What a token's query head finds at a layer when it sees the keys of some positions of its story, in
 * float64.
 */
std::vector<double> AttendPositions(const ArenaShape& shape, const Story& story, int64_t layer,
                                    int64_t query_head, int64_t token,
                                    const std::vector<int64_t>& positions);

/** The share of a token's attention, over all before it, that falls on each block; one head. */
std::vector<double> BlockMass(const ArenaShape& shape, const Story& story, int64_t layer,
                              int64_t query_head, int64_t token);

}  // namespace ucm::test
