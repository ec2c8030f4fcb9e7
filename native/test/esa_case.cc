#include "test/esa_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "cpu/reference.h"
#include "test/check.h"

namespace ucm::test {
namespace {

/** Bytes that no step wrote: NaN in every dtype. */
constexpr int kPoison = 0xff;

BlockKey KeyOfBlock(int32_t id, int64_t block) {
    BlockKey key;
    const int64_t words[] = {id + 1, block};
    std::memcpy(key.bytes.data(), words, sizeof(words));
    return key;
}

}  // namespace

FaultyStore::FaultyStore(const BlockShape& shape) : shape_(shape), thread_([this] { Serve(); }) {}

FaultyStore::~FaultyStore() {
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void FaultyStore::Keep(const BlockKey& key, const uint8_t* block) {
    const std::lock_guard lock(mutex_);
    blocks_[key].assign(block, block + shape_.bytes_per_block);
}

bool FaultyStore::Holds(const BlockKey& key, int64_t layer, const uint8_t* piece, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    const uint8_t* kept = blocks_.at(key).data() + layer * shape_.layer_bytes();
    return std::memcmp(kept, piece, static_cast<std::size_t>(bytes)) == 0;
}

void FaultyStore::Break(const BlockKey& key, std::optional<BlockStatus> status) {
    const std::lock_guard lock(mutex_);
    broken_.erase(key);
    if (status.has_value()) broken_[key] = *status;
}

void FaultyStore::Stall(bool stalled) {
    {
        const std::lock_guard lock(mutex_);
        stalled_ = stalled;
    }
    changed_.notify_all();
}

void FaultyStore::LoadPieces(std::vector<PieceTarget> pieces, BlocksDone done) {
    {
        const std::lock_guard lock(mutex_);
        requests_.push_back({std::move(pieces), std::move(done)});
    }
    changed_.notify_all();
}

BlockStatus FaultyStore::Answer(const PieceTarget& piece) {
    const std::lock_guard lock(mutex_);
    if (const auto broken = broken_.find(piece.key); broken != broken_.end()) return broken->second;
    const auto block = blocks_.find(piece.key);
    if (block == blocks_.end()) return BlockStatus::kMissing;
    std::memcpy(piece.data, block->second.data() + piece.layer * shape_.layer_bytes(),
                static_cast<std::size_t>(shape_.layer_bytes()));
    loaded_.fetch_add(1);
    return BlockStatus::kOk;
}

void FaultyStore::Serve() {
    for (;;) {
        Request request;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] { return closed_ || (!stalled_ && !requests_.empty()); });
            if (requests_.empty()) return;
            request = std::move(requests_.front());
            requests_.pop_front();
        }
        std::vector<BlockStatus> statuses;
        for (const PieceTarget& piece : request.pieces) statuses.push_back(Answer(piece));
        request.done(std::move(statuses));
    }
}

Story::Story(Random& random, const ArenaShape& shape, int64_t tokens)
    : q(random.Normals(shape.num_layers * tokens * shape.num_query_heads * shape.head_dim)),
      k(random.Normals(shape.num_layers * tokens * shape.num_kv_heads * shape.head_dim)),
      v(random.Normals(shape.num_layers * tokens * shape.num_kv_heads * shape.head_dim)),
      tokens(tokens) {}

ArenaShape EsaShape(int64_t layers, int64_t kv_heads, int64_t group, int64_t head_dim, Dtype dtype,
                    RepresentationShape representation, int64_t block_size, int64_t blocks) {
    return {.num_blocks = blocks,
            .num_layers = layers,
            .block_size = block_size,
            .num_query_heads = kv_heads * group,
            .num_kv_heads = kv_heads,
            .head_dim = head_dim,
            .dtype = dtype,
            .representation = representation};
}

Rope EsaRope(int64_t head_dim) {
    Rope rope;
    const int64_t half = head_dim / 2;
    for (int64_t i = 0; i < half; ++i) {
        rope.inv_freq.push_back(
            std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half)));
    }
    return rope;
}

EsaCase::EsaCase(const ArenaShape& shape, const esa::SparseOptions& options,
                 const cpu::Kernels& kernels, int threads)
    : shape(shape), pool(std::make_shared<ThreadPool>(threads)) {
    std::unique_ptr<KvArena> created;
    UCM_CHECK(KvArena::Create(shape, &created).ok());
    arena = std::move(created);
    std::memset(arena->Piece(0, 0), kPoison, static_cast<std::size_t>(arena->bytes()));
    attention = std::make_unique<PagedAttention>(*arena, EsaRope(shape.head_dim), kernels, *pool);
    store = std::make_shared<FaultyStore>(BlockShape{arena->bytes_per_block(),
                                                     static_cast<int32_t>(shape.num_layers),
                                                     static_cast<int32_t>(shape.block_size)});
    const Status status =
        esa::SparseAttention::Create(arena, store, options, kernels, pool, &sparse);
    UCM_CHECK_MESSAGE(status.ok(), status.message());
    free_blocks.resize(static_cast<std::size_t>(shape.num_blocks));
    std::iota(free_blocks.begin(), free_blocks.end(), 0);
}

Actor EsaCase::Begin(Random& random, int32_t id, const esa::SparseBudget& budget, int64_t prompt,
                     int64_t tokens) {
    Actor actor{.id = id, .budget = budget, .story = std::make_shared<Story>(random, shape, tokens)};
    actor.prompt = prompt;
    const auto blocks =
        static_cast<std::size_t>((tokens + shape.block_size - 1) / shape.block_size);
    UCM_CHECK(free_blocks.size() >= blocks);
    actor.blocks.assign(free_blocks.end() - static_cast<std::ptrdiff_t>(blocks), free_blocks.end());
    free_blocks.resize(free_blocks.size() - blocks);
    for (int64_t i = 0; i < budget.candidates; ++i) {
        actor.keys.push_back(KeyOfBlock(id, budget.init + i));
    }
    return actor;
}

void EsaCase::FeedPrompt(Actor& actor, int64_t chunk) {
    while (actor.tokens < actor.prompt) Run({&actor}, std::min(chunk, actor.prompt - actor.tokens));
}

void EsaCase::Store(const Actor& actor) {
    for (std::size_t i = 0; i < actor.keys.size(); ++i) {
        const auto block = static_cast<std::size_t>(actor.budget.init) + i;
        store->Keep(actor.keys[i], arena->Piece(actor.blocks[block], 0));
    }
}

void EsaCase::Watch(Actor& actor) {
    const Status status = sparse->Watch(actor.id, actor.budget, actor.blocks, actor.keys);
    UCM_CHECK_MESSAGE(status.ok(), status.message());
    actor.watched = true;
}

void EsaCase::Enter(Actor& actor, const std::vector<int32_t>& slots) {
    const auto first = actor.blocks.begin() + actor.budget.init;
    std::vector<int32_t> kept(actor.blocks.begin(), first);
    std::vector<int32_t> slot_blocks;
    for (const int32_t slot : slots) {
        if (slot >= 0) {
            slot_blocks.push_back(first[slot]);
            continue;
        }
        slot_blocks.push_back(free_blocks.back());
        free_blocks.pop_back();
    }
    const Status status = sparse->Enter(actor.id, slot_blocks);
    UCM_CHECK_MESSAGE(status.ok(), status.message());
    actor.entered = true;
    for (int64_t i = 0; i < actor.budget.candidates; ++i) {
        if (std::count(slot_blocks.begin(), slot_blocks.end(), first[i]) > 0) continue;
        std::memset(arena->Piece(first[i], 0), kPoison,
                    static_cast<std::size_t>(arena->bytes_per_block()));
        free_blocks.push_back(first[i]);
    }
    kept.insert(kept.end(), slot_blocks.begin(), slot_blocks.end());
    kept.insert(kept.end(), first + actor.budget.candidates, actor.blocks.end());
    actor.blocks = std::move(kept);
}

void EsaCase::End(Actor& actor) {
    sparse->Leave(std::vector<int32_t>{actor.id});
    // Whoever gets them next: nothing of this sequence may be read or written any more.
    for (const int32_t block : actor.blocks) {
        std::memset(arena->Piece(block, 0), kPoison,
                    static_cast<std::size_t>(arena->bytes_per_block()));
        free_blocks.push_back(block);
    }
    actor.blocks.clear();
    actor.watched = actor.entered = false;
}

std::vector<std::vector<float>> EsaCase::Decode(const std::vector<Actor*>& actors) {
    std::vector<std::vector<float>> out = Run(actors, 1);
    sparse->FinishStep();
    return out;
}

std::vector<int32_t> EsaCase::Chosen(const Actor& actor, int64_t layer) const {
    std::vector<int32_t> chosen;
    UCM_CHECK(sparse->Chosen(actor.id, layer, &chosen).ok());
    return chosen;
}

std::vector<std::vector<float>> EsaCase::Run(const std::vector<Actor*>& actors, int64_t rows) {
    std::vector<int32_t> starts = {0}, lengths, block_starts = {0}, blocks, positions, ids;
    for (const Actor* actor : actors) {
        const int64_t left =
            actor->entered ? (actor->budget.candidates - actor->budget.top_k) * shape.block_size : 0;
        starts.push_back(starts.back() + static_cast<int32_t>(rows));
        lengths.push_back(static_cast<int32_t>(actor->tokens + rows - left));
        blocks.insert(blocks.end(), actor->blocks.begin(), actor->blocks.end());
        block_starts.push_back(static_cast<int32_t>(blocks.size()));
        positions.push_back(static_cast<int32_t>(actor->tokens));
        ids.push_back(actor->watched ? actor->id : -1);
    }
    std::vector<SparseRow> sparse_rows;
    Status status = sparse->BeginStep(ids, starts, &sparse_rows);
    UCM_CHECK_MESSAGE(status.ok(), status.message());
    status = attention->BeginStep({starts, lengths, block_starts, blocks, positions, sparse_rows});
    UCM_CHECK_MESSAGE(status.ok(), status.message());
    const int64_t q_width = shape.num_query_heads * shape.head_dim;
    const int64_t kv_width = shape.num_kv_heads * shape.head_dim;
    std::vector<std::vector<float>> outputs(actors.size());
    for (int64_t layer = 0; layer < shape.num_layers; ++layer) {
        std::vector<float> q, k, v;
        const auto append = [&](std::vector<float>& to, const std::vector<float>& from,
                                const Actor& actor, int64_t width) {
            const auto first =
                from.begin() + (layer * actor.story->tokens + actor.tokens) * width;
            to.insert(to.end(), first, first + rows * width);
        };
        for (const Actor* actor : actors) {
            append(q, actor->story->q, *actor, q_width);
            append(k, actor->story->k, *actor, kv_width);
            append(v, actor->story->v, *actor, kv_width);
        }
        std::vector<float> out(q.size());
        attention->Forward({layer, q.data(), q_width, k.data(), kv_width, v.data(), kv_width,
                            nullptr, nullptr, 0.0f},
                           out.data());
        for (std::size_t i = 0; i < actors.size(); ++i) {
            const auto first = out.begin() + static_cast<int64_t>(i) * rows * q_width;
            outputs[i].insert(outputs[i].end(), first, first + rows * q_width);
        }
    }
    for (Actor* actor : actors) actor->tokens += rows;
    return outputs;
}

namespace {

/** One head of one token as attention uses it: rotated, in float64. */
std::vector<double> HeadAt(const ArenaShape& shape, const std::vector<float>& values,
                           const Story& story, int64_t heads, int64_t layer, int64_t token,
                           int64_t head, bool rotated) {
    const int64_t dim = shape.head_dim;
    const float* x =
        values.data() + ((layer * story.tokens + token) * heads + head) * dim;
    std::vector<double> out(x, x + dim);
    const Rope rope = EsaRope(rotated ? dim : 0);
    for (std::size_t i = 0; i < rope.inv_freq.size(); ++i) {
        const double angle = static_cast<double>(token) * rope.inv_freq[i];
        const double a = out[i];
        const double b = out[i + rope.inv_freq.size()];
        out[i] = a * std::cos(angle) - b * std::sin(angle);
        out[i + rope.inv_freq.size()] = b * std::cos(angle) + a * std::sin(angle);
    }
    return out;
}

/** exp(score) of a token's query with the keys of some positions. */
std::vector<double> WeightsOf(const ArenaShape& shape, const Story& story, int64_t layer,
                              int64_t query_head, int64_t token,
                              const std::vector<int64_t>& positions) {
    const std::vector<double> q =
        HeadAt(shape, story.q, story, shape.num_query_heads, layer, token, query_head, true);
    std::vector<double> weights;
    for (const int64_t position : positions) {
        const std::vector<double> k = HeadAt(shape, story.k, story, shape.num_kv_heads, layer,
                                             position, query_head / shape.group_size(), true);
        double score = 0.0;
        for (std::size_t d = 0; d < q.size(); ++d) {
            score += q[d] * cpu::ReferenceRound(static_cast<float>(k[d]), shape.dtype);
        }
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(shape.head_dim))));
    }
    return weights;
}

}  // namespace

std::vector<double> AttendPositions(const ArenaShape& shape, const Story& story, int64_t layer,
                                    int64_t query_head, int64_t token,
                                    const std::vector<int64_t>& positions) {
    const std::vector<double> weights =
        WeightsOf(shape, story, layer, query_head, token, positions);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<double> out(static_cast<std::size_t>(shape.head_dim), 0.0);
    for (std::size_t i = 0; i < positions.size(); ++i) {
        const std::vector<double> v = HeadAt(shape, story.v, story, shape.num_kv_heads, layer,
                                             positions[i], query_head / shape.group_size(), false);
        for (std::size_t d = 0; d < out.size(); ++d) {
            out[d] += weights[i] / sum *
                      cpu::ReferenceRound(static_cast<float>(v[d]), shape.dtype);
        }
    }
    return out;
}

std::vector<double> BlockMass(const ArenaShape& shape, const Story& story, int64_t layer,
                              int64_t query_head, int64_t token) {
    std::vector<int64_t> positions(static_cast<std::size_t>(token) + 1);
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<double> weights =
        WeightsOf(shape, story, layer, query_head, token, positions);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<double> mass(static_cast<std::size_t>(token / shape.block_size) + 1, 0.0);
    for (std::size_t i = 0; i < weights.size(); ++i) {
        mass[i / static_cast<std::size_t>(shape.block_size)] += weights[i] / sum;
    }
    return mass;
}

}  // namespace ucm::test
