#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "store/block_key.h"

namespace ucm {

/** What became of one block. */
enum class BlockStatus : uint8_t {
    /** It is not in the store. */
    kMissing = 0,
    kOk = 1,
    /** It was there, but damaged; it is gone now. */
    kCorrupt = 2,
    /** The device did not answer in time. */
    kTimeout = 3,
    /** The device reported an error. */
    kFailed = 4,
    /** There is no room, or all of it is pinned. */
    kRefused = 5,
    /** The device is not used since it failed repeatedly, or the store is closed. */
    kUnavailable = 6,
};

struct LoadTarget {
    BlockKey key;
    uint8_t* data;
};

/** Blocks that are loaded together: collects what became of each and how far their layers are. */
class LoadBatch {
  public:
    using Progress = std::function<void(int32_t layers)>;
    using Done = std::function<void(std::vector<BlockStatus>)>;

    /**
     * `progress`, which may be empty, is told each time more layers are there in every block; it is
     * called in order, never after `done`, and must be quick.
     */
    LoadBatch(std::vector<LoadTarget> targets, int32_t num_layers, Progress progress, Done done)
        : targets_(std::move(targets)),
          progress_(std::move(progress)),
          done_(std::move(done)),
          statuses_(targets_.size(), BlockStatus::kMissing),
          layers_(targets_.size(), 0),
          pending_of_layer_(static_cast<std::size_t>(num_layers), targets_.size()),
          pending_(targets_.size()) {
        if (targets_.empty()) done_({});
    }

    std::size_t size() const { return targets_.size(); }
    const LoadTarget& target(std::size_t index) const { return targets_[index]; }

    /** The first `layers` layers of the block are verified. */
    void Advance(std::size_t index, int32_t layers) {
        const std::lock_guard lock(mutex_);
        AdvanceLocked(index, layers);
    }

    /** Once per block. A block that failed holds up no layer: its status says that it is not there. */
    void Finish(std::size_t index, BlockStatus status) {
        {
            const std::lock_guard lock(mutex_);
            statuses_[index] = status;
            AdvanceLocked(index, static_cast<int32_t>(pending_of_layer_.size()));
            if (--pending_ > 0) return;
        }
        done_(std::move(statuses_));
    }

  private:
    void AdvanceLocked(std::size_t index, int32_t layers) {
        for (; layers_[index] < layers; ++layers_[index]) {
            --pending_of_layer_[static_cast<std::size_t>(layers_[index])];
        }
        const int32_t before = ready_;
        while (ready_ < static_cast<int32_t>(pending_of_layer_.size()) &&
               pending_of_layer_[static_cast<std::size_t>(ready_)] == 0) {
            ++ready_;
        }
        if (ready_ > before && progress_) progress_(ready_);
    }

    const std::vector<LoadTarget> targets_;
    const Progress progress_;
    const Done done_;
    std::mutex mutex_;
    std::vector<BlockStatus> statuses_;
    std::vector<int32_t> layers_;
    std::vector<std::size_t> pending_of_layer_;
    std::size_t pending_;
    int32_t ready_ = 0;
};

/** One layer of a block, and where it goes. */
struct PieceTarget {
    BlockKey key;
    int32_t layer;
    uint8_t* data;
};

/** Pieces that are loaded together. Those of one block are read together where they are neighbours. */
class PieceBatch {
  public:
    using Done = std::function<void(std::vector<BlockStatus>)>;

    PieceBatch(std::vector<PieceTarget> targets, Done done)
        : targets_(std::move(targets)),
          done_(std::move(done)),
          statuses_(targets_.size(), BlockStatus::kMissing),
          pending_(targets_.size()) {
        if (targets_.empty()) done_({});
    }

    const PieceTarget& target(std::size_t index) const { return targets_[index]; }

    /** Calls `visit(begin, end)` for the neighbours of each block. */
    template <typename Visit>
    void ForBlocks(Visit visit) const {
        for (std::size_t begin = 0; begin < targets_.size();) {
            std::size_t end = begin + 1;
            while (end < targets_.size() && targets_[end].key == targets_[begin].key) ++end;
            visit(begin, end);
            begin = end;
        }
    }

    /** Once per piece. */
    void Finish(std::size_t begin, std::size_t end, BlockStatus status) {
        if (begin == end) return;
        {
            const std::lock_guard lock(mutex_);
            for (std::size_t i = begin; i < end; ++i) statuses_[i] = status;
            pending_ -= end - begin;
            if (pending_ > 0) return;
        }
        done_(std::move(statuses_));
    }

  private:
    const std::vector<PieceTarget> targets_;
    const Done done_;
    std::mutex mutex_;
    std::vector<BlockStatus> statuses_;
    std::size_t pending_;
};

}  // namespace ucm
