// Decoding over a part of the prompt: against the dense run to the bit, against float64, and when
// things go wrong.
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include "cpu/dispatch.h"
#include "test/check.h"
#include "test/esa_case.h"

namespace ucm::test {
namespace {

using cpu::Representation;
using std::chrono::milliseconds;
using Ids = std::vector<int32_t>;

constexpr double kTolerance = 2e-5;
constexpr double kHalfTolerance = 2e-3;
/** Queries and weights may be bfloat16 too. */
constexpr double kBfloat16Tolerance = 8e-3;

const cpu::Kernels& Best() { return *cpu::AvailableKernels().front(); }

Ids Range(int64_t count) {
    Ids ids(static_cast<std::size_t>(count));
    std::iota(ids.begin(), ids.end(), 0);
    return ids;
}

/** A sequence that has entered: its prompt is in, it decoded one token densely. */
Actor Entered(EsaCase& room, Random& random, int32_t id, const esa::SparseBudget& budget,
              int64_t prompt, int64_t tokens, const Ids& slots) {
    Actor actor = room.Begin(random, id, budget, prompt, tokens);
    room.FeedPrompt(actor);
    room.Store(actor);
    room.Watch(actor);
    room.Decode({&actor});
    room.Enter(actor, slots);
    return actor;
}

/** Positions that a sequence attends at a layer when it decodes token `token`. */
std::vector<int64_t> KeptPositions(const EsaCase& room, const Actor& actor, int64_t layer,
                                   int64_t token) {
    const esa::SparseBudget& budget = actor.budget;
    const Ids chosen = actor.entered ? room.Chosen(actor, layer) : Range(budget.candidates);
    std::vector<int64_t> positions;
    for (int64_t position = 0; position <= token; ++position) {
        const int64_t candidate = position / room.shape.block_size - budget.init;
        const bool left_out = candidate >= 0 && candidate < budget.candidates &&
                              !std::binary_search(chosen.begin(), chosen.end(), candidate);
        if (!left_out) positions.push_back(position);
    }
    return positions;
}

void CheckAgainstDefinition(const EsaCase& room, const Actor& actor,
                            const std::vector<float>& output, const std::string& what) {
    const ArenaShape& shape = room.shape;
    const double tolerance = shape.dtype == Dtype::kFloat32    ? kTolerance
                             : shape.dtype == Dtype::kBfloat16 ? kBfloat16Tolerance
                                                               : kHalfTolerance;
    const int64_t token = actor.tokens - 1;
    for (int64_t layer = 0; layer < shape.num_layers; ++layer) {
        const std::vector<int64_t> positions = KeptPositions(room, actor, layer, token);
        for (int64_t head = 0; head < shape.num_query_heads; ++head) {
            const std::vector<double> expected =
                AttendPositions(shape, *actor.story, layer, head, token, positions);
            double greatest = 0.0;
            for (const double value : expected) greatest = std::max(greatest, std::abs(value));
            for (std::size_t d = 0; d < expected.size(); ++d) {
                const auto at =
                    static_cast<std::size_t>((layer * shape.num_query_heads + head) *
                                             shape.head_dim) + d;
                UCM_CHECK_MESSAGE(std::abs(output[at] - expected[d]) <= tolerance * greatest,
                                  what + ": " + std::to_string(std::abs(output[at] - expected[d]) / greatest));
            }
        }
    }
}

UCM_TEST(esa_all_candidates_chosen_is_dense_to_the_bit) {
    Random random(21);
    const ArenaShape shape = EsaShape(2, 2, 3, 64, Dtype::kBfloat16, {Representation::kMinMax, 16});
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        for (int64_t prompt = 1; prompt <= 4 * 16 + 3; ++prompt) {
            EsaCase room(shape, {.stride = 1}, *kernels, 2);
            const int64_t init = std::min<int64_t>(1, prompt / 16);
            const int64_t candidates = prompt / 16 - init;
            const esa::SparseBudget budget = {init, candidates, candidates};
            Actor dense = room.Begin(random, 1, budget, prompt, prompt + 8);
            Actor sparse = room.Begin(random, 2, budget, prompt, prompt + 8);
            sparse.story = dense.story;
            for (Actor* actor : {&dense, &sparse}) room.FeedPrompt(*actor);
            room.Store(sparse);
            room.Watch(sparse);
            for (int step = 0; step < 8; ++step) {
                const auto outputs = room.Decode({&dense, &sparse});
                UCM_CHECK_MESSAGE(outputs[0] == outputs[1], "prompt " + std::to_string(prompt));
                if (step == 0) room.Enter(sparse, Range(candidates));
                UCM_CHECK(room.sparse->Settle(Ids{2}).empty());
            }
        }
    }
}

/** With all layers dense nothing is left out, however few blocks stay in the arena. */
UCM_TEST(esa_all_layers_dense_is_dense_to_the_bit) {
    Random random(31);
    const ArenaShape shape =
        EsaShape(3, 2, 3, 64, Dtype::kBfloat16, {Representation::kMinMax, 16}, 16, 160);
    for (const int threads : {1, 3}) {
        for (const int64_t prompt : {96, 100, 111, 16 * 40, 16 * 40 + 5}) {
            EsaCase room(shape, {.dense_layers = 3, .stride = 1, .recall_every = 1}, Best(),
                         threads);
            const esa::SparseBudget budget = {1, prompt / 16 - 2, 2};
            Actor dense = room.Begin(random, 1, budget, prompt, prompt + 40);
            Actor sparse = room.Begin(random, 2, budget, prompt, prompt + 40);
            sparse.story = dense.story;
            for (Actor* actor : {&dense, &sparse}) room.FeedPrompt(*actor);
            room.Watch(sparse);
            for (int step = 0; step < 40; ++step) {
                const auto outputs = room.Decode({&dense, &sparse});
                UCM_CHECK_MESSAGE(outputs[0] == outputs[1], "prompt " + std::to_string(prompt));
                if (step == 0) room.Enter(sparse, {3, -1});
                UCM_CHECK(room.sparse->Settle(Ids{2}).empty());
            }
            UCM_CHECK(room.sparse->dense_layer_bytes() ==
                      3 * budget.candidates * room.arena->description_offset());
            UCM_CHECK(room.sparse->counters().Get(esa::Counter::kSelections) == 1);
            UCM_CHECK(room.store->loaded_pieces() == 0);
            UCM_CHECK(room.sparse->TakeRecalls().empty());
            room.End(sparse);
            UCM_CHECK(room.sparse->dense_layer_bytes() == 0);
        }
    }
}

UCM_TEST(esa_attention_over_what_is_kept_matches_its_definition) {
    Random random(22);
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16}) {
            const int64_t stride = random.Integer(1, 4);
            const auto kind = random.Pick<Representation>(
                {Representation::kMean, Representation::kMinMax, Representation::kCuboid});
            const int64_t dense_layers = random.Integer(0, 2);
            const ArenaShape shape = EsaShape(3, 2, 3, random.Pick<int64_t>({40, 64}), dtype,
                                              {kind, 16}, 16, 128);
            EsaCase room(shape, {.dense_layers = dense_layers, .stride = stride}, *kernels, 2);
            Actor first = Entered(room, random, 1, {1, 18, 5}, 340, 380, {1, 2, 5, 16, 17});
            Actor second = Entered(room, random, 2, {0, 9, 0}, 150, 200, {});
            Actor third = Entered(room, random, 3, {2, 6, 2}, 8 * 16, 170, {5, -1});
            Actor dense = room.Begin(random, 4, {1, 4, 2}, 100, 140);
            room.FeedPrompt(dense);
            for (int step = 0; step < 9; ++step) {
                UCM_CHECK(room.sparse->Settle(Ids{1, 2, 3}).empty());
                const std::vector<Actor*> actors = {&second, &first, &dense, &third};
                const auto outputs = room.Decode(actors);
                for (std::size_t i = 0; i < actors.size(); ++i) {
                    CheckAgainstDefinition(room, *actors[i], outputs[i],
                                           std::string(kernels->name) + ", dense layers " +
                                               std::to_string(dense_layers) + ", step " +
                                               std::to_string(step) + ", sequence " +
                                               std::to_string(actors[i]->id));
                }
            }
            UCM_CHECK(room.sparse->counters().Get(esa::Counter::kLoadedPieces) ==
                      room.store->loaded_pieces());
            UCM_CHECK(room.store->loaded_pieces() > 0);
        }
    }
}

/** Threads, the slots that were taken, the order of blocks, batch mates and when they came. */
UCM_TEST(esa_bits_do_not_depend_on_placement) {
    const ArenaShape shape =
        EsaShape(2, 2, 2, 64, Dtype::kBfloat16, {Representation::kCuboid, 16}, 16, 200);
    std::vector<std::vector<float>> expected;
    for (const int threads : {1, 2, 3}) {
        for (const Ids& slots : {Ids{0, 1, 2, 3}, Ids{20, 25, 30, 33}, Ids{35, -1, 10, -1}}) {
            EsaCase room(shape, {.stride = 3, .recall_every = 2}, Best(), threads);
            Random order(static_cast<uint32_t>(threads + slots[0]));
            std::shuffle(room.free_blocks.begin(), room.free_blocks.end(), order.engine());
            Random random(23);
            Actor actor =
                Entered(room, random, 1, {1, 36, 4}, 37 * 16 + 5, 37 * 16 + 60, slots);
            Actor mate = Entered(room, order, 2, {1, 20, 3}, 400, 460, {4, 5, 19});
            std::vector<std::vector<float>> outputs;
            for (int step = 0; step < 30; ++step) {
                const bool together = (step + slots[0]) % 2 == 0;
                const Ids ids = together ? Ids{2, 1} : Ids{1};
                UCM_CHECK(room.sparse->Settle(ids).empty());
                outputs.push_back(together ? room.Decode({&mate, &actor}).back()
                                           : room.Decode({&actor}).back());
            }
            if (expected.empty()) expected = outputs;
            UCM_CHECK(outputs == expected);
        }
    }
}

/** The candidates with the greatest true mass at a token. */
Ids TrueBest(const EsaCase& room, const Actor& actor, int64_t layer, int64_t token) {
    const auto candidates = static_cast<std::size_t>(actor.budget.candidates);
    std::vector<double> mass(candidates, 0.0);
    for (int64_t head = 0; head < room.shape.num_query_heads; ++head) {
        const std::vector<double> of_head =
            BlockMass(room.shape, *actor.story, layer, head, token);
        for (std::size_t c = 0; c < candidates; ++c) {
            mass[c] += of_head[c + static_cast<std::size_t>(actor.budget.init)];
        }
    }
    Ids best = Range(actor.budget.candidates);
    std::sort(best.begin(), best.end(), [&](int32_t a, int32_t b) {
        return mass[static_cast<std::size_t>(a)] > mass[static_cast<std::size_t>(b)];
    });
    best.resize(static_cast<std::size_t>(actor.budget.top_k));
    std::sort(best.begin(), best.end());
    return best;
}

/** Which step's queries chose what is in use: at first the last ones, then those of a stride ago. */
UCM_TEST(esa_selections_come_at_their_stride) {
    const ArenaShape shape = EsaShape(2, 1, 2, 64, Dtype::kFloat32, {});
    for (const int64_t stride : {1, 2, 3, 5}) {
        EsaCase room(shape, {.score = esa::Score::kOracle, .stride = stride}, Best(), 2);
        Random random(24);
        Actor actor = Entered(room, random, 1, {1, 9, 2}, 165, 210, {3, 4});
        const int64_t watched = actor.tokens - 1;
        for (int64_t step = 1; step <= 3 * stride + 2; ++step) {
            UCM_CHECK(room.sparse->Settle(Ids{1}).empty());
            const int64_t strides = (step - 1) / stride;
            const int64_t before = stride == 1 ? 0 : 1;
            const int64_t asked = strides == 0 ? 0 : strides * stride - before;
            for (int64_t layer = 0; layer < 2; ++layer) {
                UCM_CHECK_MESSAGE(room.Chosen(actor, layer) ==
                                      TrueBest(room, actor, layer, watched + asked),
                                  "stride " + std::to_string(stride) + ", step " +
                                      std::to_string(step));
            }
            room.Decode({&actor});
        }
        UCM_CHECK(room.sparse->counters().Get(esa::Counter::kSelections) ==
                  1 + (3 * stride + 1) / stride);
        UCM_CHECK(room.sparse->counters().Get(esa::Counter::kEarlySelections) == 0);
    }
}

/** While all candidates are in the arena, their keys are known: no description is needed, nor asked. */
UCM_TEST(esa_first_choice_is_by_true_mass) {
    Random random(29);
    for (const Representation kind : {Representation::kMean, Representation::kMinMax}) {
        for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
            const ArenaShape shape = EsaShape(3, 2, random.Pick<int64_t>({1, 3}), 64,
                                              Dtype::kFloat32, {kind, 16});
            EsaCase room(shape, {.dense_layers = 1}, *kernels, 2);
            Actor actor = Entered(room, random, 1, {1, 9, 2}, 165, 210, {3, 4});
            for (int64_t layer = 1; layer < 3; ++layer) {
                UCM_CHECK_MESSAGE(room.Chosen(actor, layer) ==
                                      TrueBest(room, actor, layer, actor.tokens - 1),
                                  kernels->name);
            }
        }
    }
}

UCM_TEST(esa_drift_selects_early) {
    const ArenaShape shape = EsaShape(2, 1, 2, 64, Dtype::kFloat32, {Representation::kMean, 16});
    for (const bool same : {false, true}) {
        EsaCase room(shape, {.stride = 100, .drift_cosine = 0.5}, Best(), 1);
        Random random(25);
        Actor actor = room.Begin(random, 1, {1, 9, 2}, 165, 210);
        // Without rotation in the way, equal queries are equal.
        room.attention = std::make_unique<PagedAttention>(*room.arena, Rope{}, Best(), *room.pool);
        if (same) std::fill(actor.story->q.begin(), actor.story->q.end(), 1.0f);
        room.FeedPrompt(actor);
        room.Store(actor);
        room.Watch(actor);
        room.Decode({&actor});
        room.Enter(actor, {0, 1});
        for (int step = 0; step < 6; ++step) {
            UCM_CHECK(room.sparse->Settle(Ids{1}).empty());
            room.Decode({&actor});
        }
        // Each takes one step to be made and comes into use before the one after.
        UCM_CHECK(room.sparse->counters().Get(esa::Counter::kEarlySelections) == (same ? 0 : 3));
    }
}

UCM_TEST(esa_recall_is_the_share_that_was_kept) {
    const ArenaShape shape = EsaShape(3, 2, 2, 64, Dtype::kFloat32, {Representation::kMean, 16},
                                      16, 128);
    EsaCase room(shape, {.stride = 4, .recall_every = 1}, Best(), 2);
    Random random(26);
    // More candidates than are read at a time.
    Actor actor = Entered(room, random, 1, {1, 70, 9}, 72 * 16 + 5, 72 * 16 + 60, Range(9));
    for (int step = 0; step < 9; ++step) {
        UCM_CHECK(room.sparse->Settle(Ids{1}).empty());
        room.Decode({&actor});
        std::vector<float> recalls;
        while (recalls.empty()) recalls = room.sparse->TakeRecalls();
        UCM_CHECK(recalls.size() == 1);
        const int64_t layer = step % 3;
        const Ids chosen = room.Chosen(actor, layer);
        double expected = 0.0;
        for (int64_t head = 0; head < shape.num_query_heads; ++head) {
            const std::vector<double> mass =
                BlockMass(shape, *actor.story, layer, head, actor.tokens - 1);
            for (std::size_t block = 0; block < mass.size(); ++block) {
                const auto candidate = static_cast<int32_t>(block) - 1;
                const bool left_out =
                    candidate >= 0 && candidate < 70 &&
                    !std::binary_search(chosen.begin(), chosen.end(), candidate);
                if (!left_out) expected += mass[block] / 4.0;
            }
        }
        UCM_CHECK(std::abs(recalls[0] - expected) < 1e-5);
        // The probe ends on its own thread, a moment after its result.
        std::this_thread::sleep_for(milliseconds(2));
    }
}

constexpr esa::SparseOptions kRandomPicks = {.score = esa::Score::kRandom, .stride = 2,
                                             .wait = milliseconds(200)};

UCM_TEST(esa_a_piece_that_does_not_come_loses_the_sequence) {
    const ArenaShape shape = EsaShape(2, 1, 2, 64, Dtype::kFloat32, {}, 16, 128);
    for (const BlockStatus status : {BlockStatus::kMissing, BlockStatus::kCorrupt,
                                     BlockStatus::kFailed, BlockStatus::kTimeout,
                                     BlockStatus::kUnavailable}) {
        EsaCase room(shape, kRandomPicks, Best(), 2);
        Random random(27);
        Actor actor = Entered(room, random, 1, {1, 20, 4}, 400, 440, {0, 1, 2, 3});
        Actor mate = Entered(room, random, 2, {1, 20, 4}, 400, 440, {0, 1, 2, 3});
        for (const BlockKey& key : actor.keys) room.store->Break(key, status);
        for (int step = 0; step < 2; ++step) {
            UCM_CHECK(room.sparse->Settle(Ids{1, 2}).empty());
            room.Decode({&actor, &mate});
        }
        UCM_CHECK((room.sparse->Settle(Ids{1, 2, 77}) == Ids{1, 77}));
        UCM_CHECK((room.sparse->Settle(Ids{1}) == Ids{1}));
        UCM_CHECK(room.sparse->counters().Get(esa::Counter::kLostSequences) == 1);
        room.End(actor);
        for (int step = 0; step < 6; ++step) {
            UCM_CHECK(room.sparse->Settle(Ids{2}).empty());
            CheckAgainstDefinition(room, mate, room.Decode({&mate})[0], "the mate");
        }
        UCM_CHECK(room.sparse->sequences() == 1);
    }
}

UCM_TEST(esa_a_store_that_stalls_is_waited_for_once) {
    const ArenaShape shape = EsaShape(2, 1, 2, 64, Dtype::kFloat32, {}, 16, 128);
    EsaCase room(shape, kRandomPicks, Best(), 2);
    Random random(28);
    Actor actor = Entered(room, random, 1, {1, 20, 4}, 400, 440, {0, 1, 2, 3});
    const auto step = [&] { CheckAgainstDefinition(room, actor, room.Decode({&actor})[0], ""); };
    const auto count = [&](esa::Counter counter) { return room.sparse->counters().Get(counter); };
    // A short stall makes one step wait.
    room.store->Stall(true);
    step();
    step();
    std::thread opener([&] {
        std::this_thread::sleep_for(milliseconds(20));
        room.store->Stall(false);
    });
    UCM_CHECK(room.sparse->Settle(Ids{1}).empty());
    opener.join();
    UCM_CHECK(count(esa::Counter::kLateSteps) == 1);
    UCM_CHECK(count(esa::Counter::kWaitMicros) >= 10'000);
    // A long one ends it, and what comes later goes nowhere.
    room.store->Stall(true);
    step();
    step();
    const auto start = esa::Clock::now();
    UCM_CHECK((room.sparse->Settle(Ids{1}) == Ids{1}));
    UCM_CHECK(esa::Clock::now() - start >= milliseconds(199));
    UCM_CHECK(count(esa::Counter::kLostSequences) == 1);
    room.End(actor);
    UCM_CHECK(room.sparse->sequences() == 0 && room.sparse->representation_bytes() == 0);
    room.store->Stall(false);
    const int64_t loaded = room.store->loaded_pieces();
    for (int i = 0; i < 1000 && room.store->loaded_pieces() == loaded; ++i) {
        std::this_thread::sleep_for(milliseconds(1));
    }
    const uint8_t* bytes = room.arena->Piece(0, 0);
    UCM_CHECK(std::all_of(bytes, bytes + room.arena->bytes_per_block(),
                          [](uint8_t x) { return x == 0xff; }));
}

UCM_TEST(esa_is_disposed_while_its_store_stalls) {
    const ArenaShape shape = EsaShape(2, 1, 2, 64, Dtype::kFloat32, {}, 16, 128);
    EsaCase room(shape, {.score = esa::Score::kRandom, .stride = 2, .recall_every = 1}, Best(), 2);
    Random random(29);
    Actor actor = Entered(room, random, 1, {1, 20, 4}, 400, 440, {0, 1, 2, 3});
    room.store->Stall(true);
    room.Decode({&actor});
    room.Decode({&actor});
    room.sparse->Dispose();
    room.sparse->Dispose();
    UCM_CHECK((room.sparse->Settle(Ids{1}) == Ids{1}));
    room.sparse.reset();
    room.store->Stall(false);
}

UCM_TEST(esa_refuses_what_does_not_fit) {
    const ArenaShape shape = EsaShape(2, 1, 2, 64, Dtype::kFloat32, {}, 16, 128);
    EsaCase room(shape, kRandomPicks, Best(), 1);
    Random random(30);
    const auto refused = [](const Status& status, const char* why) {
        UCM_CHECK_MESSAGE(status.message().find(why) != std::string::npos, status.message());
    };
    std::shared_ptr<esa::SparseAttention> none;
    refused(esa::SparseAttention::Create(room.arena, room.store, {}, Best(), room.pool, &none),
            "needs an arena with one");
    refused(esa::SparseAttention::Create(room.arena, room.store,
                                         {.score = esa::Score::kRandom, .dense_layers = 3}, Best(),
                                         room.pool, &none),
            "denseLayers is 3, expected 0 to the arena's 2 layers");
    const auto other = std::make_shared<FaultyStore>(BlockShape{4096, 2, 16});
    refused(esa::SparseAttention::Create(room.arena, other, kRandomPicks, Best(), room.pool, &none),
            "the store's blocks are 2 layers in 4096 bytes");
    Actor actor = room.Begin(random, 1, {1, 8, 3}, 160, 200);
    refused(room.sparse->Watch(1, {1, 8, 9}, actor.blocks, actor.keys), "keep 9 of 8");
    refused(room.sparse->Watch(1, {1, 8, 3}, Ids{1, 2}, actor.keys), "has 2 blocks and 8 keys");
    refused(room.sparse->Watch(1, {1, 8, 3}, Ids(9, 128), actor.keys), "has no block 128");
    room.FeedPrompt(actor);
    room.Watch(actor);
    refused(room.sparse->Enter(2, Ids{}), "sequence 2 is not watched");
    refused(room.sparse->Enter(1, Ids{0, 1, 2}), "has not decoded");
    room.Decode({&actor});
    refused(room.sparse->Enter(1, Ids{0, 1}), "needs 3 slots, got 2");
    refused(room.sparse->Enter(1, Ids{2, 1, 2}), "has a block twice");
    refused(room.sparse->Enter(1, Ids{0, 1, 128}), "not in the arena");
    Ids chosen;
    refused(room.sparse->Chosen(1, 0, &chosen), "has not entered");
    room.Enter(actor, {0, 1, 2});
    refused(room.sparse->Enter(1, Ids{0, 1, 2}), "is not watched");
    std::vector<SparseRow> rows;
    refused(room.sparse->BeginStep(Ids{1, 1}, Ids{0, 1, 2}, &rows), "is twice in the batch");
    refused(room.sparse->BeginStep(Ids{5}, Ids{0, 1}, &rows), "sequence 5 is not watched");
    // Two rows, or one inside of the slots: what is there is not in the order of the table.
    UCM_CHECK(room.sparse->BeginStep(Ids{1}, Ids{0, 2}, &rows).ok());
    const Ids table(actor.blocks);
    const Ids blocks_at = {0, static_cast<int32_t>(table.size())};
    refused(room.attention->BeginStep({Ids{0, 2}, Ids{70}, blocks_at, table, Ids{150}, rows}),
            "expected one row behind its sparse slots");
    refused(room.attention->BeginStep({Ids{0, 1}, Ids{64}, blocks_at, table, Ids{150}, rows}),
            "expected one row behind its sparse slots, which end at 64");
    refused(room.attention->BeginStep({Ids{0, 1}, Ids{81}, blocks_at, table, Ids{79}, rows}),
            "sparse.positions[0] is 79, expected at least 80");
    Ids other_table(table);
    std::swap(other_table[0], other_table[1]);
    refused(room.attention->BeginStep({Ids{0, 1}, Ids{81}, blocks_at, other_table, Ids{150}, rows}),
            "the blocks of sequence 0 from its place 1 on are not its sparse slots");
}

UCM_TEST(esa_memory_of_a_thousand_sequences_comes_back) {
    const ArenaShape shape =
        EsaShape(2, 1, 2, 32, Dtype::kBfloat16, {Representation::kCuboid, 16}, 16, 64);
    EsaCase room(shape, {.stride = 2, .recall_every = 3}, Best(), 2);
    const auto live_one = [&](int32_t id) {
        Random random(static_cast<uint32_t>(id));
        Actor actor = Entered(room, random, id, {1, 8, 3}, 150, 170, {0, 1, 2});
        for (int step = 0; step < 5; ++step) {
            UCM_CHECK(room.sparse->Settle(Ids{id}).empty());
            room.Decode({&actor});
        }
        room.End(actor);
        room.sparse->TakeRecalls();
    };
    const auto live = [&](int32_t from, int32_t to) {
        for (int32_t id = from; id < to; ++id) live_one(id);
        // The last ones' jobs see that nobody waits for them.
        std::this_thread::sleep_for(milliseconds(50));
    };
    // The store of this test keeps all blocks, so sequences share their keys' room.
    live(0, 100);
    const std::size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (int round = 0; round < 10; ++round) live(0, 100);
    const std::size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    UCM_CHECK(room.sparse->sequences() == 0 && room.sparse->representation_bytes() == 0);
    const auto growth = static_cast<int64_t>(after) - static_cast<int64_t>(before);
    UCM_CHECK_MESSAGE(growth < 64 * 1024, std::to_string(growth));
}

}  // namespace
}  // namespace ucm::test
