#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "esa/selection.h"

namespace ucm::esa {

/** Shares of the true attention mass that the kept blocks had; from any thread. */
class Recalls {
  public:
    void Add(float recall) {
        const std::lock_guard lock(mutex_);
        recalls_.push_back(recall);
    }
    std::vector<float> Take() {
        const std::lock_guard lock(mutex_);
        return std::exchange(recalls_, {});
    }

    /** One probe at a time: false when there is one. */
    bool Begin() { return !busy_.exchange(true); }
    void End() { busy_.store(false); }

  private:
    std::mutex mutex_;
    std::vector<float> recalls_;
    std::atomic<bool> busy_{false};
};

/**
 * Measures what a row missed at one layer: reads the keys of all candidates that it did not attend
 * from the store, a few at a time, and weighs them with the row's own queries. What it did attend is
 * known from the attention itself. Ends without a result when the store does not give a piece.
 */
class RecallProbe final : public Job, public std::enable_shared_from_this<RecallProbe> {
  public:
    /** `seen` is of `layer` alone; recalls.Begin() was true. */
    RecallProbe(std::shared_ptr<Workshop> workshop, std::shared_ptr<Recalls> recalls,
                std::shared_ptr<const Prompt> prompt, int64_t layer, Observation seen,
                std::vector<int32_t> missed);
    ~RecallProbe() override { recalls_->End(); }

    void Run(BlockScorer::Scratch& scratch) override;

  private:
    void LoadNext();
    void WeighLoaded(BlockScorer::Scratch& scratch);
    float Recall() const;

    const std::shared_ptr<Workshop> workshop_;
    const std::shared_ptr<Recalls> recalls_;
    const std::shared_ptr<const Prompt> prompt_;
    const int64_t layer_;
    const Observation seen_;
    const std::vector<int32_t> missed_;
    /** Pieces [begin_, end_) of the missed ones are in memory or on their way. */
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    AlignedBuffer<uint8_t> pieces_;
    AlignedBuffer<float> panel_;
    /** Of each query head: the missed keys' sum of exponentials, relative to the row's maximum. */
    std::vector<double> mass_;
};

}  // namespace ucm::esa
