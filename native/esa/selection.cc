#include "esa/selection.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace ucm::esa {

Selection::Selection(std::shared_ptr<Workshop> workshop, std::shared_ptr<const Prompt> prompt,
                     Observation seen, SlotMap slots, uint64_t number,
                     std::unique_ptr<AlignedBuffer<uint8_t>> staging)
    : workshop_(std::move(workshop)),
      prompt_(std::move(prompt)),
      seen_(std::move(seen)),
      slots_(std::move(slots)),
      number_(number),
      staging_(std::move(staging)),
      next_layer_(workshop_->options.dense_layers),
      unranked_layers_(workshop_->shape.num_layers - workshop_->options.dense_layers),
      moves_of_layers_(static_cast<std::size_t>(unranked_layers_.load())) {}

void Selection::Rank(BlockScorer::Scratch& scratch) {
    const int64_t layers = workshop_->shape.num_layers;
    const int64_t first_layer = workshop_->options.dense_layers;
    const auto start = Clock::now();
    bool is_last = false;
    std::vector<int32_t> chosen;
    for (int64_t layer; (layer = next_layer_.fetch_add(1, std::memory_order_relaxed)) < layers;) {
        if (!prompt_->left()) {
            workshop_->scorer.Choose(*prompt_, layer, seen_, slots_.At(layer), number_, scratch,
                                     &chosen);
            slots_.Plan(layer, chosen,
                        &moves_of_layers_[static_cast<std::size_t>(layer - first_layer)]);
        }
        is_last = unranked_layers_.fetch_sub(1, std::memory_order_acq_rel) == 1;
    }
    workshop_->counters.Add(Counter::kSelectMicros, MicrosSince(start));
    if (!is_last) return;
    if (prompt_->left()) return End(State::kFailed);
    JoinMoves();
    Load();
}

void Selection::JoinMoves() {
    for (const std::vector<Move>& moves : moves_of_layers_) {
        moves_.insert(moves_.end(), moves.begin(), moves.end());
    }
    // Layers of one block are read together.
    std::sort(moves_.begin(), moves_.end(), [](const Move& a, const Move& b) {
        return std::tie(a.candidate, a.layer) < std::tie(b.candidate, b.layer);
    });
    const auto loaded = static_cast<int64_t>(moves_.size());
    workshop_->counters.Add(Counter::kLoadedPieces, loaded);
    workshop_->counters.Add(
        Counter::kKeptPieces,
        static_cast<int64_t>(moves_of_layers_.size()) * slots_.slots() - loaded);
}

void Selection::Load() {
    const auto store = workshop_->store.lock();
    if (store == nullptr) return End(State::kFailed);
    const int64_t bytes = workshop_->piece_bytes;
    staging_->Reserve(static_cast<int64_t>(moves_.size()) * bytes);
    std::vector<PieceTarget> targets;
    targets.reserve(moves_.size());
    for (std::size_t i = 0; i < moves_.size(); ++i) {
        targets.push_back({prompt_->key(moves_[i].candidate), moves_[i].layer,
                           staging_->data() + static_cast<int64_t>(i) * bytes});
    }
    const auto start = Clock::now();
    store->LoadPieces(
        std::move(targets),
        [self = shared_from_this(), start](const std::vector<BlockStatus>& statuses) {
            self->workshop_->counters.Add(Counter::kLoadMicros, MicrosSince(start));
            const bool all = std::all_of(statuses.begin(), statuses.end(), [](BlockStatus status) {
                return status == BlockStatus::kOk;
            });
            self->End(all ? State::kReady : State::kFailed);
        });
}

void Selection::End(State state) {
    {
        const std::lock_guard lock(mutex_);
        state_ = state;
    }
    ended_.notify_all();
}

Selection::State Selection::Wait(Clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    ended_.wait_until(lock, deadline, [&] { return state_ != State::kRunning; });
    return state_;
}

const uint8_t* Selection::Piece(std::size_t move) const {
    return staging_->data() + static_cast<int64_t>(move) * workshop_->piece_bytes;
}

}  // namespace ucm::esa
