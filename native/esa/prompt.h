#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "attention/kv_arena.h"
#include "common/aligned_buffer.h"
#include "common/thread_pool.h"
#include "cpu/kernels.h"
#include "esa/sparse_options.h"
#include "store/block_key.h"

namespace ucm::esa {

/**
 * What selection knows of a sequence's candidates: their store keys and the vectors that they are
 * scored by. It is copied out of the arena and never changes, so that any thread may use it whatever
 * becomes of the sequence and its blocks.
 */
class Prompt {
  public:
    Prompt(int32_t id, const SparseBudget& budget, std::span<const BlockKey> keys)
        : id_(id), budget_(budget), keys_(keys.begin(), keys.end()) {}

    /**
     * Copies and transposes the candidates' vectors at the layers that choose: the arena's
     * descriptions, or all keys.
     */
    void Pack(const KvArena& arena, const SparseOptions& options,
              std::span<const int32_t> candidate_blocks, const cpu::Kernels& kernels,
              ThreadPool& pool);

    int32_t id() const { return id_; }
    const SparseBudget& budget() const { return budget_; }
    const BlockKey& key(int64_t candidate) const {
        return keys_[static_cast<std::size_t>(candidate)];
    }

    /** Vectors of one candidate; 0 when it is not scored by any. */
    int64_t rows_per_block() const { return rows_per_block_; }
    /** Floats of one vector with all its parts. */
    int64_t depth() const { return depth_; }
    int64_t rows() const { return budget_.candidates * rows_per_block_; }
    int64_t panels() const { return (rows() + cpu::kPanelKeys - 1) / cpu::kPanelKeys; }
    /** Rows [kPanelKeys * panel, …) of a head, at a layer that chooses: [words of depth][kPanelKeys]. */
    const float* Panel(int64_t layer, int64_t kv_head, int64_t panel) const {
        const int64_t head = (layer - first_layer_) * kv_heads_ + kv_head;
        return panels_.data() + (head * panels() + panel) * panel_floats_;
    }
    int64_t bytes() const { return panels_.capacity() * static_cast<int64_t>(sizeof(float)); }

    /** Tells the threads that still work for the sequence that nobody waits for it. */
    void Leave() { left_.store(true, std::memory_order_relaxed); }
    bool left() const { return left_.load(std::memory_order_relaxed); }

  private:
    const int32_t id_;
    const SparseBudget budget_;
    const std::vector<BlockKey> keys_;
    int64_t first_layer_ = 0;
    int64_t kv_heads_ = 0;
    int64_t rows_per_block_ = 0;
    int64_t depth_ = 0;
    int64_t panel_floats_ = 0;
    AlignedBuffer<float> panels_;
    std::atomic<bool> left_{false};
};

}  // namespace ucm::esa
