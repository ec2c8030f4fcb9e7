// Descriptions of blocks, scores and choices against float64, on every instruction set.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <set>
#include <string>

#include "cpu/dispatch.h"
#include "cpu/reference.h"
#include "esa/block_scorer.h"
#include "esa/slot_map.h"
#include "test/check.h"
#include "test/esa_case.h"

namespace ucm::test {
namespace {

using cpu::Representation;

constexpr Representation kKinds[] = {Representation::kMean, Representation::kMinMax,
                                     Representation::kCuboid};
constexpr Dtype kDtypes[] = {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16};

/** A description by its definition: [part][dim]. */
std::vector<double> Describe(Representation kind, const std::vector<double>& keys, int64_t count,
                             int64_t dim) {
    std::vector<double> out(static_cast<std::size_t>(cpu::PartsOf(kind) * dim), 0.0);
    for (int64_t d = 0; d < dim; ++d) {
        std::vector<double> channel;
        for (int64_t i = 0; i < count; ++i) {
            channel.push_back(keys[static_cast<std::size_t>(i * dim + d)]);
        }
        const double mean = std::accumulate(channel.begin(), channel.end(), 0.0) /
                            static_cast<double>(count);
        double deviation = 0.0;
        for (const double x : channel) deviation += std::abs(x - mean) / static_cast<double>(count);
        const auto first = static_cast<std::size_t>(d);
        const auto second = static_cast<std::size_t>(dim + d);
        const bool bounds = kind == Representation::kMinMax;
        out[first] = bounds ? *std::max_element(channel.begin(), channel.end()) : mean;
        if (bounds) out[second] = *std::min_element(channel.begin(), channel.end());
        if (kind == Representation::kCuboid) out[second] = deviation;
    }
    return out;
}

/** Of one query with one description, by its definition. */
double ScoreOf(Representation kind, const float* q, const std::vector<double>& description) {
    const std::size_t dim =
        description.size() / static_cast<std::size_t>(cpu::PartsOf(kind));
    double score = 0.0;
    for (std::size_t d = 0; d < dim; ++d) {
        const double x = q[d];
        if (kind == Representation::kMinMax) {
            score += std::max(x * description[d], x * description[dim + d]);
        } else {
            score += x * description[d];
            if (kind == Representation::kCuboid) score += std::abs(x) * description[dim + d];
        }
    }
    return score;
}

UCM_TEST(esa_descriptions_match_their_definition) {
    Random random(11);
    for (const Representation kind : kKinds) {
        for (const Dtype dtype : kDtypes) {
            for (const int64_t dim : {8, 40, 64, 128, 200}) {
                for (const int64_t count : {8, 16, 32, 128}) {
                    const std::vector<float> values = random.Normals(count * dim);
                    std::vector<uint8_t> keys(static_cast<std::size_t>(count * dim * BytesOf(dtype)));
                    cpu::kScalarKernels.from_float(dtype, values.data(), keys.data(), count * dim);
                    std::vector<double> rounded;
                    for (const float x : values) rounded.push_back(cpu::ReferenceRound(x, dtype));
                    const std::vector<double> expected = Describe(kind, rounded, count, dim);
                    std::vector<float> scalar;
                    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
                        std::vector<float> out(expected.size() + 1, -7.0f);
                        kernels->describe_keys(kind, dtype, keys.data(), count, dim, out.data());
                        UCM_CHECK(out.back() == -7.0f);
                        for (std::size_t i = 0; i < expected.size(); ++i) {
                            UCM_CHECK_MESSAGE(std::abs(out[i] - expected[i]) < 1e-6, kernels->name);
                        }
                        if (scalar.empty()) scalar = out;
                        UCM_CHECK_MESSAGE(std::memcmp(out.data(), scalar.data(),
                                                      out.size() * sizeof(float)) == 0,
                                          kernels->name);
                    }
                }
            }
        }
    }
}

/** However the prompt is cut, and over block ends that decodes pass. */
UCM_TEST(esa_descriptions_are_written_when_a_block_fills) {
    Random random(12);
    for (const int64_t sub : {16, 32, 128}) {
        for (const Representation kind : kKinds) {
            const Dtype dtype = kDtypes[random.Integer(0, 2)];
            const ArenaShape shape = EsaShape(2, 2, 2, 40, dtype, {kind, sub}, 128, 8);
            for (const int64_t chunk : {7, 128, 1000}) {
                EsaCase room(shape, {.score = esa::Score::kRandom}, cpu::kScalarKernels, 2);
                Actor actor = room.Begin(random, 1, {}, 300, 400);
                room.FeedPrompt(actor, chunk);
                const int64_t full = actor.tokens / shape.block_size;
                for (int64_t task = 0; task < full * 4; ++task) {
                    const int64_t layer = task / full / 2;
                    const int64_t head = task / full % 2;
                    const auto block =
                        actor.blocks[static_cast<std::size_t>(task % full)];
                    const uint8_t* kept = room.arena->Piece(block, layer) +
                                          room.arena->description_offset() +
                                          head * room.arena->descriptions_bytes();
                    const int64_t floats = cpu::PartsOf(kind) * shape.head_dim;
                    std::vector<float> expected(static_cast<std::size_t>(floats));
                    std::vector<uint8_t> bytes(
                        static_cast<std::size_t>(floats * BytesOf(dtype)));
                    for (int64_t i = 0; i < shape.descriptions(); ++i) {
                        cpu::kScalarKernels.describe_keys(
                            kind, dtype,
                            room.arena->Keys(block, layer, head) + i * sub * room.arena->row_bytes(),
                            sub, shape.head_dim, expected.data());
                        cpu::kScalarKernels.from_float(dtype, expected.data(), bytes.data(), floats);
                        UCM_CHECK(std::memcmp(kept + i * static_cast<int64_t>(bytes.size()),
                                              bytes.data(), bytes.size()) == 0);
                    }
                }
            }
        }
    }
}

UCM_TEST(esa_an_arena_without_descriptions_is_as_it_was) {
    Random random(13);
    const ArenaShape bare = EsaShape(2, 2, 3, 64, Dtype::kBfloat16, {});
    const ArenaShape described =
        EsaShape(2, 2, 3, 64, Dtype::kBfloat16, {Representation::kCuboid, 16});
    EsaCase without(bare, {.score = esa::Score::kRandom}, cpu::kScalarKernels, 1);
    EsaCase with(described, {}, cpu::kScalarKernels, 1);
    UCM_CHECK(without.arena->bytes_per_layer() == 2 * without.arena->value_offset());
    UCM_CHECK(with.arena->bytes_per_layer() ==
              without.arena->bytes_per_layer() + 2 * 2 * 64 * 2);
    Actor a = without.Begin(random, 1, {}, 50, 70);
    Actor b = with.Begin(random, 1, {}, 50, 70);
    b.story = a.story;
    without.FeedPrompt(a);
    with.FeedPrompt(b);
    for (int i = 0; i < 15; ++i) UCM_CHECK(without.Decode({&a}) == with.Decode({&b}));
    for (int64_t layer = 0; layer < 2; ++layer) {
        UCM_CHECK(std::memcmp(without.arena->Piece(a.blocks[0], layer),
                              with.arena->Piece(b.blocks[0], layer),
                              static_cast<std::size_t>(without.arena->bytes_per_layer())) == 0);
    }
}

/** Random ones; the first part is the greater. */
void WriteDescriptions(Random& random, const KvArena& arena, int64_t block) {
    const ArenaShape& shape = arena.shape();
    const int64_t dim = shape.head_dim;
    const bool pairs = cpu::PartsOf(shape.representation.kind) == 2;
    for (int64_t layer = 0; layer < shape.num_layers; ++layer) {
        uint8_t* out = arena.Piece(block, layer) + arena.description_offset();
        for (int64_t i = 0; i < shape.num_kv_heads * shape.descriptions(); ++i) {
            std::vector<float> description = random.Normals(pairs ? 2 * dim : dim);
            for (std::size_t d = static_cast<std::size_t>(dim); d < description.size(); ++d) {
                description[d] = description[d - static_cast<std::size_t>(dim)] -
                                 std::abs(description[d]);
            }
            const auto count = static_cast<int64_t>(description.size());
            cpu::kScalarKernels.from_float(shape.dtype, description.data(), out, count);
            out += count * BytesOf(shape.dtype);
        }
    }
}

/** Votes of a prompt by their definition, from the arena's own descriptions. */
std::vector<double> VotesOf(const EsaCase& room, const Actor& actor, esa::GroupReduce reduce,
                            int64_t layer, const esa::Observation& seen) {
    const ArenaShape& shape = room.shape;
    const auto candidates = static_cast<std::size_t>(actor.budget.candidates);
    const Representation kind = shape.representation.kind;
    const int64_t floats = cpu::PartsOf(kind) * shape.head_dim;
    std::vector<double> votes(candidates, 0.0);
    for (int64_t head = 0; head < shape.num_kv_heads; ++head) {
        std::vector<double> head_votes(candidates, 0.0);
        for (int64_t g = 0; g < shape.group_size(); ++g) {
            const int64_t query_head = head * shape.group_size() + g;
            const float* q = seen.queries.data() +
                             (layer * shape.num_query_heads + query_head) * shape.head_dim;
            std::vector<double> weights(candidates, 0.0);
            for (std::size_t c = 0; c < candidates; ++c) {
                const int32_t block =
                    actor.blocks[static_cast<std::size_t>(actor.budget.init) + c];
                const uint8_t* kept = room.arena->Piece(block, layer) +
                                      room.arena->description_offset() +
                                      head * room.arena->descriptions_bytes();
                for (int64_t i = 0; i < shape.descriptions(); ++i) {
                    std::vector<float> description(static_cast<std::size_t>(floats));
                    cpu::kScalarKernels.to_float(shape.dtype,
                                                 kept + i * floats * BytesOf(shape.dtype),
                                                 description.data(), floats);
                    weights[c] += std::exp(
                        ScoreOf(kind, q, {description.begin(), description.end()}));
                }
            }
            const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
            for (std::size_t c = 0; c < candidates; ++c) {
                const double share = weights[c] / sum;
                head_votes[c] = reduce == esa::GroupReduce::kMax
                                    ? std::max(head_votes[c], share)
                                    : head_votes[c] + share;
            }
        }
        for (std::size_t c = 0; c < candidates; ++c) votes[c] += head_votes[c];
    }
    return votes;
}

UCM_TEST(esa_votes_match_their_definition) {
    Random random(14);
    for (const Representation kind : kKinds) {
        for (const auto& [block_size, sub] :
             std::vector<std::pair<int64_t, int64_t>>{{16, 16}, {128, 16}, {128, 32}, {128, 128}}) {
            for (const auto reduce : {esa::GroupReduce::kMax, esa::GroupReduce::kMean}) {
                const ArenaShape shape =
                    EsaShape(2, 2, random.Pick<int64_t>({1, 3, 7}), random.Pick<int64_t>({40, 64}),
                             kDtypes[random.Integer(0, 2)], {kind, sub}, block_size, 16);
                for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
                    const esa::SparseOptions options = {.group_reduce = reduce};
                    EsaCase room(shape, options, *kernels, 2);
                    Actor actor = room.Begin(random, 1, {1, 9, 3}, 0, 10 * block_size);
                    for (const int32_t block : actor.blocks) {
                        WriteDescriptions(random, *room.arena, block);
                    }
                    esa::Prompt prompt(1, actor.budget, actor.keys);
                    prompt.Pack(*room.arena, options,
                                std::span<const int32_t>(actor.blocks).subspan(1, 9), *kernels,
                                *room.pool);
                    const esa::BlockScorer scorer(shape, options, *kernels);
                    esa::BlockScorer::Scratch scratch;
                    esa::Observation seen;
                    seen.queries = random.Normals(2 * shape.num_query_heads * shape.head_dim);
                    for (float& q : seen.queries) q *= 0.2f;
                    // Pairs of bfloat16 round the query.
                    const bool pairs = cpu::TilesFor(*kernels, shape.dtype).word_values > 1;
                    const double slack = pairs ? 3e-2 : 1e-5;
                    for (int64_t layer = 0; layer < 2; ++layer) {
                        const std::vector<double> expected =
                            VotesOf(room, actor, reduce, layer, seen);
                        scorer.Vote(prompt, layer, seen, {}, 0, scratch);
                        for (std::size_t c = 0; c < expected.size(); ++c) {
                            UCM_CHECK_MESSAGE(
                                std::abs(scratch.votes[c] - expected[c]) < slack * expected[c],
                                kernels->name);
                        }
                        esa::SparseOptions reading_on = options;
                        reading_on.next_share = 0.7;
                        const esa::BlockScorer carrier(shape, reading_on, *kernels);
                        carrier.Vote(prompt, layer, seen, {}, 0, scratch);
                        for (std::size_t c = 0; c < expected.size(); ++c) {
                            const double before = c > 0 ? 0.7 * expected[c - 1] : 0.0;
                            const double carried = std::max(expected[c], before);
                            UCM_CHECK_MESSAGE(
                                std::abs(scratch.votes[c] - carried) < slack * carried,
                                kernels->name);
                        }
                        scorer.Vote(prompt, layer, seen, {}, 0, scratch);
                        std::vector<int32_t> chosen;
                        scorer.Choose(prompt, layer, seen, {}, 0, scratch, &chosen);
                        UCM_CHECK(chosen.size() == 3 &&
                                  std::is_sorted(chosen.begin(), chosen.end()));
                        for (const int32_t in : chosen) {
                            for (int32_t out = 0; out < 9; ++out) {
                                const bool is_in =
                                    std::binary_search(chosen.begin(), chosen.end(), out);
                                UCM_CHECK(is_in || scratch.votes[static_cast<std::size_t>(in)] >=
                                                       scratch.votes[static_cast<std::size_t>(out)]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/** The oracle's votes are the true shares of the attention, whatever was kept when it looked. */
UCM_TEST(esa_oracle_votes_are_true_mass) {
    Random random(15);
    const ArenaShape shape = EsaShape(1, 2, 2, 64, Dtype::kFloat32, {});
    for (const cpu::Kernels* kernels : cpu::AvailableKernels()) {
        EsaCase room(shape, {.score = esa::Score::kOracle, .stride = 1}, *kernels, 2);
        Actor actor = room.Begin(random, 1, {1, 8, 3}, 170, 200);
        room.FeedPrompt(actor);
        room.Store(actor);
        room.Watch(actor);
        for (int step = 0; step < 12; ++step) {
            UCM_CHECK(room.sparse->Settle(actor.entered ? std::vector<int32_t>{1}
                                                        : std::vector<int32_t>{})
                          .empty());
            room.Decode({&actor});
            if (!actor.entered) room.Enter(actor, {0, 1, 2});
            if (step > 0) UCM_CHECK(room.sparse->Settle(std::vector<int32_t>{1}).empty());
            std::vector<double> mass(8, 0.0);
            for (int64_t head = 0; head < shape.num_query_heads; ++head) {
                const std::vector<double> of_head =
                    BlockMass(shape, *actor.story, 0, head, actor.tokens - 1);
                for (std::size_t c = 0; c < 8; ++c) mass[c] += of_head[c + 1];
            }
            std::vector<int32_t> best(8);
            std::iota(best.begin(), best.end(), 0);
            std::sort(best.begin(), best.end(), [&](int32_t a, int32_t b) {
                return mass[static_cast<std::size_t>(a)] > mass[static_cast<std::size_t>(b)];
            });
            best.resize(3);
            std::sort(best.begin(), best.end());
            UCM_CHECK_MESSAGE(room.Chosen(actor, 0) == best, kernels->name);
        }
    }
}

UCM_TEST(esa_choices_break_ties_and_survive_nan) {
    const ArenaShape shape = EsaShape(1, 1, 1, 8, Dtype::kFloat32, {Representation::kMean, 16});
    EsaCase room(shape, {}, cpu::kScalarKernels, 1);
    Random random(16);
    Actor actor = room.Begin(random, 1, {0, 6, 2}, 96, 96);
    std::fill(actor.story->k.begin(), actor.story->k.end(), 0.0f);
    room.FeedPrompt(actor);
    const auto choose = [&](float query) {
        esa::Prompt prompt(1, actor.budget, actor.keys);
        prompt.Pack(*room.arena, esa::SparseOptions{},
                    std::span<const int32_t>(actor.blocks).first(6), cpu::kScalarKernels,
                    *room.pool);
        const esa::BlockScorer scorer(shape, {}, cpu::kScalarKernels);
        esa::BlockScorer::Scratch scratch;
        esa::Observation seen;
        seen.queries.assign(8, query);
        std::vector<int32_t> chosen;
        scorer.Choose(prompt, 0, seen, {}, 0, scratch, &chosen);
        return chosen;
    };
    UCM_CHECK((choose(1.0f) == std::vector<int32_t>{0, 1}));
    UCM_CHECK((choose(std::nanf("")) == std::vector<int32_t>{0, 1}));
}

UCM_TEST(esa_random_choices_are_a_function_of_their_seed) {
    const ArenaShape shape = EsaShape(2, 1, 1, 8, Dtype::kFloat32, {});
    std::set<std::vector<int32_t>> different;
    std::vector<int64_t> times(40, 0);
    for (uint64_t number = 0; number < 200; ++number) {
        for (int64_t layer = 0; layer < 2; ++layer) {
            const esa::BlockScorer scorer(shape, {.score = esa::Score::kRandom, .seed = 5},
                                          cpu::kScalarKernels);
            const esa::Prompt prompt(9, {1, 40, 4}, {});
            esa::BlockScorer::Scratch scratch;
            std::vector<int32_t> chosen, again;
            scorer.Choose(prompt, layer, {}, {}, number, scratch, &chosen);
            scorer.Choose(prompt, layer, {}, {}, number, scratch, &again);
            UCM_CHECK(chosen == again && chosen.size() == 4);
            different.insert(chosen);
            for (const int32_t c : chosen) ++times[static_cast<std::size_t>(c)];
        }
    }
    UCM_CHECK(different.size() > 395);
    // 40 each on average, with a deviation of 6.
    for (const int64_t count : times) UCM_CHECK(count > 10 && count < 75);
}

UCM_TEST(esa_slot_map_keeps_what_stays) {
    Random random(17);
    for (int trial = 0; trial < 300; ++trial) {
        const int64_t candidates = random.Integer(1, 30);
        const int64_t slots = random.Integer(0, candidates);
        esa::SlotMap map(2, slots);
        for (int round = 0; round < 6; ++round) {
            std::vector<int32_t> chosen(static_cast<std::size_t>(candidates));
            std::iota(chosen.begin(), chosen.end(), 0);
            std::shuffle(chosen.begin(), chosen.end(), random.engine());
            chosen.resize(static_cast<std::size_t>(slots));
            std::sort(chosen.begin(), chosen.end());
            const std::vector<int32_t> before(map.At(1).begin(), map.At(1).end());
            std::vector<esa::Move> moves;
            map.Plan(1, chosen, &moves);
            map.Apply(moves);
            const std::span<const int32_t> after = map.At(1);
            std::size_t stayed = 0;
            for (std::size_t s = 0; s < after.size(); ++s) {
                const bool wanted = std::binary_search(chosen.begin(), chosen.end(), before[s]);
                UCM_CHECK(!wanted || after[s] == before[s]);
                stayed += wanted;
            }
            UCM_CHECK(moves.size() == chosen.size() - stayed);
            std::vector<int32_t> in_order;
            for (const int32_t slot : map.Order(1)) {
                in_order.push_back(after[static_cast<std::size_t>(slot)]);
            }
            UCM_CHECK(in_order == chosen);
            for (const int32_t candidate : map.At(0)) UCM_CHECK(candidate == -1);
        }
    }
}

}  // namespace
}  // namespace ucm::test
