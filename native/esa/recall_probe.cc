#include "esa/recall_probe.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ucm::esa {
namespace {

/** Pieces in memory at a time. */
constexpr std::size_t kPieces = 32;

}  // namespace

RecallProbe::RecallProbe(std::shared_ptr<Workshop> workshop, std::shared_ptr<Recalls> recalls,
                         std::shared_ptr<const Prompt> prompt, int64_t layer, Observation seen,
                         std::vector<int32_t> missed)
    : workshop_(std::move(workshop)),
      recalls_(std::move(recalls)),
      prompt_(std::move(prompt)),
      layer_(layer),
      seen_(std::move(seen)),
      missed_(std::move(missed)),
      mass_(seen_.sums.size(), 0.0) {}

void RecallProbe::Run(BlockScorer::Scratch& scratch) {
    if (prompt_->left()) return;
    WeighLoaded(scratch);
    if (end_ < missed_.size()) return LoadNext();
    recalls_->Add(Recall());
}

void RecallProbe::LoadNext() {
    const auto store = workshop_->store.lock();
    if (store == nullptr) return;
    const int64_t bytes = workshop_->piece_bytes;
    pieces_.Reserve(static_cast<int64_t>(kPieces) * bytes);
    begin_ = end_;
    end_ = std::min(begin_ + kPieces, missed_.size());
    std::vector<PieceTarget> targets;
    for (std::size_t i = begin_; i < end_; ++i) {
        targets.push_back({prompt_->key(missed_[i]), static_cast<int32_t>(layer_),
                           pieces_.data() + static_cast<int64_t>(i - begin_) * bytes});
    }
    store->LoadPieces(
        std::move(targets), [self = shared_from_this()](const std::vector<BlockStatus>& statuses) {
            const bool all = std::all_of(statuses.begin(), statuses.end(), [](BlockStatus status) {
                return status == BlockStatus::kOk;
            });
            if (all) self->workshop_->queue->Submit(self);
        });
}

void RecallProbe::WeighLoaded(BlockScorer::Scratch& scratch) {
    const ArenaShape& shape = workshop_->shape;
    const int64_t group = shape.group_size();
    const int64_t row_bytes = shape.head_dim * BytesOf(shape.dtype);
    const int64_t keys = static_cast<int64_t>(end_ - begin_) * shape.block_size;
    const int64_t width = workshop_->kernels.width;
    panel_.Reserve(shape.head_dim * cpu::kPanelKeys);
    scratch.scores.Reserve(group * cpu::kPanelKeys);
    const int64_t panels = (keys + cpu::kPanelKeys - 1) / cpu::kPanelKeys;
    for (int64_t task = 0; task < shape.num_kv_heads * panels; ++task) {
        const int64_t head = task / panels;
        const int64_t first = task % panels * cpu::kPanelKeys;
        const int64_t count = std::min(cpu::kPanelKeys, keys - first);
        const void* rows[cpu::kPanelKeys];
        for (int64_t i = 0; i < count; ++i) {
            const int64_t token = (first + i) % shape.block_size;
            rows[i] = pieces_.data() +
                      (first + i) / shape.block_size * workshop_->piece_bytes +
                      (head * shape.block_size + token) * row_bytes;
        }
        workshop_->kernels.pack_keys({rows, count, shape.dtype, shape.head_dim}, panel_.data());
        workshop_->kernels.multiply({.a = seen_.queries.data() + head * group * shape.head_dim,
                                     .lda = shape.head_dim,
                                     .b = panel_.data(),
                                     .ldb = cpu::kPanelKeys,
                                     .c = scratch.scores.data(),
                                     .ldc = cpu::kPanelKeys,
                                     .rows = group,
                                     .columns = (count + width - 1) / width * width,
                                     .depths = nullptr,
                                     .depth = shape.head_dim,
                                     .accumulate = false,
                                     .next = {nullptr, 0, shape.dtype, shape.head_dim}});
        for (int64_t g = 0; g < group; ++g) {
            const auto query_head = static_cast<std::size_t>(head * group + g);
            float max = 0.0f;
            float sum = 0.0f;
            workshop_->kernels.softmax(scratch.scores.data() + g * cpu::kPanelKeys, count, &max,
                                       &sum);
            mass_[query_head] += sum * std::exp(static_cast<double>(max) - seen_.maxima[query_head]);
        }
    }
}

float RecallProbe::Recall() const {
    double recall = 0.0;
    for (std::size_t head = 0; head < mass_.size(); ++head) {
        recall += seen_.sums[head] / (seen_.sums[head] + mass_[head]);
    }
    return static_cast<float>(recall / static_cast<double>(mass_.size()));
}

}  // namespace ucm::esa
