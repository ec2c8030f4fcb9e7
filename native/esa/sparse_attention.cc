#include "esa/sparse_attention.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>

#include "common/float_mode.h"

namespace ucm::esa {
namespace {

Status Refuse(const char* call, int32_t id, const std::string& why) {
    return Status::InvalidArgument(std::string(call) + ": sequence " + std::to_string(id) + " " +
                                   why);
}

}  // namespace

Status SparseAttention::Create(std::shared_ptr<KvArena> arena, std::shared_ptr<KvStore> store,
                               const SparseOptions& options, const cpu::Kernels& kernels,
                               std::shared_ptr<ThreadPool> pool,
                               std::shared_ptr<SparseAttention>* attention) {
    const ArenaShape& shape = arena->shape();
    if (store->shape().bytes_per_block != arena->bytes_per_block() ||
        store->shape().num_layers != shape.num_layers) {
        return Status::InvalidArgument(
            "createSparseAttention: the store's blocks are " +
            std::to_string(store->shape().num_layers) + " layers in " +
            std::to_string(store->shape().bytes_per_block) + " bytes, the arena's " +
            std::to_string(shape.num_layers) + " in " + std::to_string(arena->bytes_per_block()));
    }
    if (options.score == Score::kRepresentation && shape.descriptions() == 0) {
        return Status::InvalidArgument(
            "createSparseAttention: the score 'representation' needs an arena with one");
    }
    if (options.dense_layers < 0 || options.dense_layers > shape.num_layers) {
        return Status::InvalidArgument(
            "createSparseAttention: denseLayers is " + std::to_string(options.dense_layers) +
            ", expected 0 to the arena's " + std::to_string(shape.num_layers) + " layers");
    }
    attention->reset(new SparseAttention(std::move(arena), std::move(store), options, kernels,
                                         std::move(pool)));
    return Status::Ok();
}

SparseAttention::SparseAttention(std::shared_ptr<KvArena> arena, std::shared_ptr<KvStore> store,
                                 const SparseOptions& options, const cpu::Kernels& kernels,
                                 std::shared_ptr<ThreadPool> pool)
    : arena_(std::move(arena)),
      pool_(std::move(pool)),
      store_(std::move(store)),
      workshop_(new Workshop{.shape = arena_->shape(),
                             .options = options,
                             .kernels = kernels,
                             .scorer = BlockScorer(arena_->shape(), options, kernels),
                             .store = store_,
                             .piece_bytes = store_->shape().layer_bytes(),
                             .queue = std::make_shared<JobQueue>(),
                             .counters = {}}),
      thread_(std::make_unique<JobThread>(workshop_->queue)) {}

Sequence* SparseAttention::Find(int32_t id) const {
    const auto found = sequences_.find(id);
    return found == sequences_.end() ? nullptr : found->second.get();
}

Status SparseAttention::Watch(int32_t id, const SparseBudget& budget,
                              std::span<const int32_t> block_ids, std::span<const BlockKey> keys) {
    const auto wanted = static_cast<std::size_t>(budget.init + budget.candidates);
    if (Find(id) != nullptr) return Refuse("watch", id, "is watched already");
    if (budget.top_k > budget.candidates) {
        return Refuse("watch", id,
                      "is to keep " + std::to_string(budget.top_k) + " of " +
                          std::to_string(budget.candidates) + " candidates");
    }
    if (block_ids.size() < wanted || keys.size() != static_cast<std::size_t>(budget.candidates)) {
        return Refuse("watch", id,
                      "has " + std::to_string(block_ids.size()) + " blocks and " +
                          std::to_string(keys.size()) + " keys, expected " +
                          std::to_string(wanted) + " or more and " +
                          std::to_string(budget.candidates));
    }
    const std::span<const int32_t> blocks = block_ids.first(wanted);
    for (const int32_t block : blocks) {
        if (block < 0 || block >= arena_->shape().num_blocks) {
            return Refuse("watch", id, "has no block " + std::to_string(block) + " in the arena");
        }
    }
    const auto prompt = std::make_shared<Prompt>(id, budget, keys);
    const SparseOptions& options = workshop_->options;
    prompt->Pack(*arena_, options, blocks.subspan(static_cast<std::size_t>(budget.init)),
                 workshop_->kernels, *pool_);
    sequences_.emplace(id, std::make_shared<Sequence>(prompt, arena_->shape(),
                                                      options.dense_layers, blocks));
    return Status::Ok();
}

Status SparseAttention::Enter(int32_t id, std::span<const int32_t> slots) {
    Sequence* sequence = Find(id);
    if (sequence == nullptr || sequence->entered) return Refuse("enter", id, "is not watched");
    if (!sequence->observed) return Refuse("enter", id, "has not decoded since it is watched");
    const SparseBudget& budget = sequence->prompt->budget();
    const std::vector<int32_t> blocks(sequence->block_ids.begin() + budget.init,
                                      sequence->block_ids.end());
    const std::vector<int32_t> slot_blocks(slots.begin(), slots.end());
    const Status status = CheckSlots(id, budget, slot_blocks);
    if (!status.ok()) return status;
    auto start = Clock::now();
    sequence->Enter(*arena_, slot_blocks, *pool_);
    workshop_->counters.Add(Counter::kSwitchMicros, MicrosSince(start));
    const std::vector<Move> moves = ChooseNow(*sequence, blocks);
    start = Clock::now();
    std::vector<Copy> copies;
    for (const Move& move : moves) {
        // What is chosen and in no slot yet is in no block that is written to here.
        const int32_t block = blocks[static_cast<std::size_t>(move.candidate)];
        copies.push_back({SlotPiece(*sequence, move), arena_->Piece(block, move.layer)});
    }
    CopyPieces(copies);
    sequence->slots.Apply(moves);
    sequence->BuildTable(*arena_);
    sequence->selections = 1;
    workshop_->counters.Add(Counter::kSelections);
    workshop_->counters.Add(Counter::kSwitchMicros, MicrosSince(start));
    return Status::Ok();
}

Status SparseAttention::CheckSlots(int32_t id, const SparseBudget& budget,
                                   std::vector<int32_t> slots) const {
    if (slots.size() != static_cast<std::size_t>(budget.top_k)) {
        return Refuse("enter", id,
                      "needs " + std::to_string(budget.top_k) + " slots, got " +
                          std::to_string(slots.size()));
    }
    std::sort(slots.begin(), slots.end());
    if (std::adjacent_find(slots.begin(), slots.end()) != slots.end()) {
        return Refuse("enter", id, "has a block twice among its slots");
    }
    if (!slots.empty() && (slots.front() < 0 || slots.back() >= arena_->shape().num_blocks)) {
        return Refuse("enter", id, "has slots that are not in the arena");
    }
    return Status::Ok();
}

std::vector<Move> SparseAttention::ChooseNow(const Sequence& sequence,
                                             std::span<const int32_t> blocks) {
    const auto start = Clock::now();
    const int64_t layers = choosing_layers();
    const BlockScorer& scorer = workshop_->scorer;
    const Prompt& prompt = *sequence.prompt;
    const SparseOptions& options = workshop_->options;
    const bool by_mass = options.first_by_mass && options.score == Score::kRepresentation &&
                         prompt.budget().IsChoice();
    // It was dense so far: it attended all.
    std::vector<int32_t> all(blocks.size());
    std::iota(all.begin(), all.end(), 0);
    scratch_.resize(static_cast<std::size_t>(pool_->threads()));
    std::vector<std::vector<Move>> moves(static_cast<std::size_t>(layers));
    pool_->Run(layers, [&](int64_t i, int thread) {
        const int64_t layer = options.dense_layers + i;
        BlockScorer::Scratch& scratch = scratch_[static_cast<std::size_t>(thread)];
        std::vector<int32_t> chosen;
        if (by_mass) {
            scorer.ChooseByMass(prompt, layer, sequence.seen, *arena_, blocks, scratch, &chosen);
        } else {
            scorer.Choose(prompt, layer, sequence.seen, all, sequence.selections, scratch, &chosen);
        }
        sequence.slots.Plan(layer, chosen, &moves[static_cast<std::size_t>(i)]);
    });
    std::vector<Move> joined;
    for (const std::vector<Move>& some : moves) {
        joined.insert(joined.end(), some.begin(), some.end());
    }
    workshop_->counters.Add(Counter::kSelectMicros, MicrosSince(start));
    return joined;
}

uint8_t* SparseAttention::SlotPiece(const Sequence& sequence, const Move& move) const {
    return arena_->Piece(sequence.slot_blocks[static_cast<std::size_t>(move.slot)], move.layer);
}

void SparseAttention::CopyPieces(std::span<const Copy> copies) {
    const auto bytes = static_cast<std::size_t>(arena_->bytes_per_layer());
    pool_->Run(static_cast<int64_t>(copies.size()), [&](int64_t i, int) {
        const Copy& copy = copies[static_cast<std::size_t>(i)];
        std::memcpy(copy.to, copy.from, bytes);
    });
}

std::vector<int32_t> SparseAttention::Settle(std::span<const int32_t> ids) {
    const auto start = Clock::now();
    const auto deadline = start + workshop_->options.wait;
    std::vector<int32_t> lost;
    std::vector<Sequence*> ready;
    bool waited = HelpSelections(ids);
    for (const int32_t id : ids) {
        Sequence* sequence = Find(id);
        const bool goes_on =
            sequence != nullptr && sequence->entered && !sequence->lost &&
            (!IsDue(*sequence) || AwaitSelection(*sequence, deadline, &waited));
        if (!goes_on) {
            if (sequence != nullptr) Lose(*sequence);
            lost.push_back(id);
        } else if (IsDue(*sequence)) {
            ready.push_back(sequence);
        }
    }
    if (waited) {
        workshop_->counters.Add(Counter::kLateSteps);
        workshop_->counters.Add(Counter::kWaitMicros, MicrosSince(start));
    }
    if (!ready.empty()) Switch(ready);
    return lost;
}

bool SparseAttention::IsDue(const Sequence& sequence) const {
    // One step runs while a selection is made, unless there is a selection for every step.
    const int64_t steps = workshop_->options.stride == 1 ? 0 : 1;
    return sequence.pending != nullptr && sequence.pending_steps >= steps;
}

bool SparseAttention::HelpSelections(std::span<const int32_t> ids) {
    std::vector<Selection*> running;
    for (const int32_t id : ids) {
        const Sequence* sequence = Find(id);
        if (sequence == nullptr || !IsDue(*sequence)) continue;
        Selection* selection = sequence->pending.get();
        if (selection->Wait(Clock::time_point::min()) == Selection::State::kRunning) {
            running.push_back(selection);
        }
    }
    if (running.empty()) return false;
    scratch_.resize(static_cast<std::size_t>(pool_->threads()));
    pool_->Run(pool_->threads(), [&](int64_t, int thread) {
        for (Selection* selection : running) {
            selection->Rank(scratch_[static_cast<std::size_t>(thread)]);
        }
    });
    return true;
}

bool SparseAttention::AwaitSelection(Sequence& sequence, Clock::time_point deadline,
                                     bool* waited) {
    Selection::State state = sequence.pending->Wait(Clock::time_point::min());
    if (state == Selection::State::kRunning) {
        *waited = true;
        state = sequence.pending->Wait(deadline);
    }
    return state == Selection::State::kReady;
}

void SparseAttention::Switch(const std::vector<Sequence*>& ready) {
    const auto start = Clock::now();
    std::vector<Copy> copies;
    for (const Sequence* sequence : ready) {
        const Selection& selection = *sequence->pending;
        for (std::size_t i = 0; i < selection.moves().size(); ++i) {
            copies.push_back({SlotPiece(*sequence, selection.moves()[i]), selection.Piece(i)});
        }
    }
    CopyPieces(copies);
    for (Sequence* sequence : ready) {
        Selection& selection = *sequence->pending;
        sequence->slots.Apply(selection.moves());
        sequence->BuildTable(*arena_);
        sequence->chosen_by = selection.seen().queries;
        sequence->staging = selection.TakeStaging();
        sequence->pending.reset();
        sequence->steps = 0;
        workshop_->counters.Add(Counter::kSelections);
    }
    workshop_->counters.Add(Counter::kSwitchMicros, MicrosSince(start));
}

void SparseAttention::Lose(Sequence& sequence) {
    if (sequence.lost) return;
    sequence.lost = true;
    sequence.prompt->Leave();
    sequence.pending.reset();
    workshop_->counters.Add(Counter::kLostSequences);
}

Status SparseAttention::BeginStep(std::span<const int32_t> ids,
                                  std::span<const int32_t> query_start,
                                  std::vector<SparseRow>* rows) {
    in_step_.clear();
    rows->clear();
    for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0) continue;
        const auto found = sequences_.find(ids[i]);
        if (found == sequences_.end() || found->second->lost) {
            return Refuse("beginStep", ids[i], "is not watched");
        }
        const bool one_row =
            i + 1 < query_start.size() && query_start[i + 1] - query_start[i] == 1;
        // A watched one may still be at its prompt.
        if (!one_row && !found->second->entered) continue;
        if (std::find(in_step_.begin(), in_step_.end(), found->second) != in_step_.end()) {
            return Refuse("beginStep", ids[i], "is twice in the batch");
        }
        rows->push_back(found->second->RowOf(static_cast<int64_t>(i)));
        in_step_.push_back(found->second);
    }
    step_is_open_ = true;
    return Status::Ok();
}

void SparseAttention::FinishStep() {
    if (!std::exchange(step_is_open_, false)) return;
    const ScopedFloatMode float_mode;
    for (const std::shared_ptr<Sequence>& sequence : in_step_) {
        const SparseBudget& budget = sequence->prompt->budget();
        const bool chooses = choosing_layers() > 0 && budget.IsChoice();
        if (!sequence->entered || sequence->lost || !chooses) continue;
        ++sequence->steps;
        if (sequence->pending != nullptr) {
            ++sequence->pending_steps;
            continue;
        }
        const SparseOptions& options = workshop_->options;
        const bool regular = sequence->steps >= std::max<int64_t>(1, options.stride - 1);
        const bool early =
            !regular && options.drift_cosine > 0.0 &&
            sequence->QueryCosine(arena_->shape()) < options.drift_cosine;
        if (regular || early) StartSelection(*sequence, early);
    }
    ++finished_steps_;
    const int64_t every = workshop_->options.recall_every;
    if (every > 0 && finished_steps_ % every == 0) ProbeRecall();
}

void SparseAttention::StartSelection(Sequence& sequence, bool early) {
    if (early) workshop_->counters.Add(Counter::kEarlySelections);
    sequence.pending = std::make_shared<Selection>(
        workshop_, sequence.prompt, sequence.seen, sequence.slots, sequence.selections++,
        std::exchange(sequence.staging, nullptr));
    sequence.pending_steps = 0;
    workshop_->queue->Submit(sequence.pending);
}

void SparseAttention::ProbeRecall() {
    Sequences entered;
    for (const std::shared_ptr<Sequence>& sequence : in_step_) {
        if (sequence->entered && !sequence->lost) entered.push_back(sequence);
    }
    const int64_t layers = choosing_layers();
    if (entered.empty() || layers == 0 || !recalls_->Begin()) return;
    const ArenaShape& shape = arena_->shape();
    const int64_t probe = probes_++;
    const int64_t layer = workshop_->options.dense_layers + probe % layers;
    const Sequence& sequence =
        *entered[static_cast<std::size_t>(probe / layers) % entered.size()];
    const auto layer_of = [&](const std::vector<float>& values, int64_t each) {
        const auto first = values.begin() + layer * shape.num_query_heads * each;
        return std::vector<float>(first, first + shape.num_query_heads * each);
    };
    Observation seen = {layer_of(sequence.seen.queries, shape.head_dim),
                        layer_of(sequence.seen.maxima, 1), layer_of(sequence.seen.sums, 1)};
    const std::span<const int32_t> at = sequence.slots.At(layer);
    std::vector<int32_t> kept(at.begin(), at.end());
    std::sort(kept.begin(), kept.end());
    std::vector<int32_t> missed;
    for (int32_t i = 0; i < sequence.prompt->budget().candidates; ++i) {
        if (!std::binary_search(kept.begin(), kept.end(), i)) missed.push_back(i);
    }
    workshop_->queue->Submit(std::make_shared<RecallProbe>(
        workshop_, recalls_, sequence.prompt, layer, std::move(seen), std::move(missed)));
}

void SparseAttention::Leave(std::span<const int32_t> ids) {
    for (const int32_t id : ids) {
        const auto found = sequences_.find(id);
        if (found == sequences_.end()) continue;
        found->second->prompt->Leave();
        sequences_.erase(found);
    }
}

Status SparseAttention::Chosen(int32_t id, int64_t layer,
                               std::vector<int32_t>* candidates) const {
    const Sequence* sequence = Find(id);
    if (sequence == nullptr || !sequence->entered) {
        return Refuse("selection", id, "has not entered");
    }
    if (layer < workshop_->options.dense_layers) {
        candidates->resize(static_cast<std::size_t>(sequence->prompt->budget().candidates));
        std::iota(candidates->begin(), candidates->end(), 0);
        return Status::Ok();
    }
    const std::span<const int32_t> contents = sequence->slots.At(layer);
    candidates->assign(contents.begin(), contents.end());
    std::sort(candidates->begin(), candidates->end());
    return Status::Ok();
}

int64_t SparseAttention::representation_bytes() const {
    int64_t bytes = 0;
    for (const auto& [id, sequence] : sequences_) bytes += sequence->prompt->bytes();
    return bytes;
}

int64_t SparseAttention::dense_layer_bytes() const {
    int64_t bytes = 0;
    for (const auto& [id, sequence] : sequences_) bytes += sequence->dense_bytes();
    return bytes;
}

void SparseAttention::Dispose() {
    for (const auto& [id, sequence] : sequences_) sequence->prompt->Leave();
    thread_.reset();
    sequences_.clear();
}

}  // namespace ucm::esa
