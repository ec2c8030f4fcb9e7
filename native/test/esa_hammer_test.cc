// Sequences come, decode and go while their store stalls, loses and damages blocks: for the thread
// sanitizer, and against what the slots must hold.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/dispatch.h"
#include "test/check.h"
#include "test/esa_case.h"

namespace ucm::test {
namespace {

using std::chrono::milliseconds;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kSteps = 150;
#else
constexpr int kSteps = 500;
#endif

/** Breaks, mends and stalls a store from a thread of its own. */
class Saboteur {
  public:
    explicit Saboteur(FaultyStore& store) : store_(store), thread_([this] { Sabotage(); }) {}
    ~Saboteur() {
        stop_.store(true);
        thread_.join();
        store_.Stall(false);
    }

    void Aim(const std::vector<BlockKey>& keys) {
        const std::lock_guard lock(mutex_);
        targets_.insert(targets_.end(), keys.begin(), keys.end());
    }
    int64_t breaks() const { return breaks_.load(); }

  private:
    void Sabotage() {
        Random random(99);
        while (!stop_.load()) {
            std::this_thread::sleep_for(std::chrono::microseconds(random.Integer(50, 1500)));
            if (random.Integer(0, 3) == 0) store_.Stall(random.Integer(0, 1) == 0);
            const std::lock_guard lock(mutex_);
            if (targets_.empty() || random.Integer(0, 2) > 0) continue;
            const BlockKey& key = random.Pick(targets_);
            store_.Break(key, std::nullopt);
            if (random.Integer(0, 9) > 0) continue;
            breaks_.fetch_add(1);
            store_.Break(key, random.Pick<BlockStatus>(
                                  {BlockStatus::kMissing, BlockStatus::kCorrupt,
                                   BlockStatus::kTimeout}));
        }
    }

    FaultyStore& store_;
    std::mutex mutex_;
    std::vector<BlockKey> targets_;
    std::atomic<int64_t> breaks_{0};
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

/** Every slot holds, at its place in the order, the block that it is said to hold. */
void CheckSlots(const EsaCase& room, const Actor& actor) {
    std::vector<SparseRow> rows;
    UCM_CHECK(room.sparse
                  ->BeginStep(std::vector<int32_t>{actor.id}, std::vector<int32_t>{0, 1}, &rows)
                  .ok());
    for (int64_t layer = 0; layer < room.shape.num_layers; ++layer) {
        const bool dense = layer < rows[0].dense_layers;
        const int64_t pieces = dense ? actor.budget.candidates : actor.budget.top_k;
        const int64_t bytes =
            dense ? room.arena->description_offset() : room.arena->bytes_per_layer();
        const std::vector<int32_t> chosen = room.Chosen(actor, layer);
        UCM_CHECK(static_cast<int64_t>(chosen.size()) == pieces);
        for (int64_t i = 0; i < pieces; ++i) {
            const auto candidate = static_cast<std::size_t>(chosen[static_cast<std::size_t>(i)]);
            UCM_CHECK(i == 0 || chosen[static_cast<std::size_t>(i - 1)] <
                                    chosen[static_cast<std::size_t>(i)]);
            UCM_CHECK(room.store->Holds(actor.keys[candidate], layer, rows[0].PieceAt(layer, i),
                                        bytes));
        }
    }
}

class Hammer {
  public:
    Hammer(const ArenaShape& shape, const esa::SparseOptions& options, uint32_t seed)
        : random_(seed), room_(shape, options, *cpu::AvailableKernels().front(), 2),
          saboteur_(*room_.store) {}

    void Run() {
        for (int step = 0; step < kSteps; ++step) {
            if (actors_.size() < 5 && random_.Integer(0, 2) == 0) Begin();
            for (std::size_t i = 0; i < actors_.size(); ++i) MaybeEnd(i);
            Step();
            room_.sparse->TakeRecalls();
        }
        for (Actor& actor : actors_) room_.End(actor);
        UCM_CHECK(room_.sparse->sequences() == 0 && room_.sparse->representation_bytes() == 0);
        UCM_CHECK(room_.sparse->dense_layer_bytes() == 0);
        UCM_CHECK(room_.sparse->counters().Get(esa::Counter::kLostSequences) == lost_);
        // Each loss has a cause, and most go well.
        UCM_CHECK(lost_ == 0 || saboteur_.breaks() > 0 ||
                  room_.sparse->counters().Get(esa::Counter::kLateSteps) > 0);
        UCM_CHECK(switches_ > kSteps / 10);
    }

  private:
    void Begin() {
        const int64_t prompt = random_.Integer(60, 200);
        const int64_t init = random_.Integer(0, 2);
        const int64_t candidates = prompt / 16 - init - random_.Integer(0, 1);
        const esa::SparseBudget budget = {init, candidates, random_.Integer(0, candidates)};
        Actor actor = room_.Begin(random_, next_id_++, budget, prompt, prompt + 60);
        room_.FeedPrompt(actor, 64);
        room_.Store(actor);
        room_.Watch(actor);
        saboteur_.Aim(actor.keys);
        actors_.push_back(std::move(actor));
    }

    void MaybeEnd(std::size_t i) {
        Actor& actor = actors_[i];
        if (actor.tokens < actor.story->tokens - 1 && random_.Integer(0, 40) > 0) return;
        room_.End(actor);
        std::swap(actor, actors_.back());
        actors_.pop_back();
    }

    void Enter(Actor& actor) {
        std::vector<int32_t> slots;
        for (int32_t i = 0; i < actor.budget.top_k; ++i) {
            const bool elsewhere = random_.Integer(0, 3) == 0 && !room_.free_blocks.empty();
            slots.push_back(elsewhere ? -1 : i);
        }
        room_.Enter(actor, slots);
    }

    void Step() {
        std::vector<int32_t> ids;
        for (const Actor& actor : actors_) {
            if (actor.entered && random_.Integer(0, 4) > 0) ids.push_back(actor.id);
        }
        const int64_t before = room_.sparse->counters().Get(esa::Counter::kSelections);
        const std::vector<int32_t> lost = room_.sparse->Settle(ids);
        switches_ += room_.sparse->counters().Get(esa::Counter::kSelections) - before;
        lost_ += static_cast<int64_t>(lost.size());
        std::erase_if(actors_, [&](Actor& actor) {
            const bool is_lost = std::count(lost.begin(), lost.end(), actor.id) > 0;
            if (is_lost) room_.End(actor);
            return is_lost;
        });
        std::vector<Actor*> in_step;
        for (Actor& actor : actors_) {
            const bool settled = std::count(ids.begin(), ids.end(), actor.id) > 0;
            if (!actor.entered || settled) in_step.push_back(&actor);
            if (actor.entered) CheckSlots(room_, actor);
        }
        if (in_step.empty()) return;
        // Freed blocks are full of NaN.
        for (const std::vector<float>& output : room_.Decode(in_step)) {
            UCM_CHECK(std::all_of(output.begin(), output.end(),
                                  [](float x) { return std::isfinite(x); }));
        }
        for (Actor* actor : in_step) {
            if (!actor->entered && random_.Integer(0, 1) == 0) Enter(*actor);
        }
    }

    Random random_;
    EsaCase room_;
    Saboteur saboteur_;
    std::vector<Actor> actors_;
    int32_t next_id_ = 0;
    int64_t lost_ = 0;
    int64_t switches_ = 0;
};

UCM_TEST(esa_hammer) {
    const ArenaShape shape = EsaShape(2, 2, 2, 32, Dtype::kBfloat16,
                                      {cpu::Representation::kCuboid, 16}, 16, 200);
    uint32_t seed = 31;
    for (const esa::Score score : {esa::Score::kRepresentation, esa::Score::kRandom}) {
        for (const int64_t stride : {1, 2, 4}) {
            Hammer({shape}, {.score = score, .dense_layers = stride / 2 % 2, .stride = stride,
                             .drift_cosine = 0.3, .recall_every = 2, .wait = milliseconds(30)},
                   seed++)
                .Run();
        }
    }
}

}  // namespace
}  // namespace ucm::test
