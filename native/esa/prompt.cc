#include "esa/prompt.h"

#include "esa/block_vectors.h"

namespace ucm::esa {

void Prompt::Pack(const KvArena& arena, const SparseOptions& options,
                  std::span<const int32_t> candidate_blocks, const cpu::Kernels& kernels,
                  ThreadPool& pool) {
    const ArenaShape& shape = arena.shape();
    const bool is_oracle = options.score == Score::kOracle;
    const auto vectors = is_oracle ? BlockVectors::Keys(arena) : BlockVectors::Descriptions(arena);
    first_layer_ = options.dense_layers;
    kv_heads_ = shape.num_kv_heads;
    rows_per_block_ = options.score == Score::kRandom ? 0 : vectors.per_block();
    depth_ = vectors.depth();
    const cpu::TileKernels tiles = cpu::TilesFor(kernels, shape.dtype);
    panel_floats_ = depth_ / tiles.word_values * cpu::kPanelKeys;
    const int64_t heads = (shape.num_layers - first_layer_) * kv_heads_;
    panels_.Reserve(heads * panels() * panel_floats_);
    pool.Run(heads, [&](int64_t task, int) {
        const int64_t layer = first_layer_ + task / kv_heads_;
        const int64_t head = task % kv_heads_;
        for (int64_t panel = 0; panel < panels(); ++panel) {
            vectors.PackPanel(candidate_blocks, layer, head, panel, tiles,
                              const_cast<float*>(Panel(layer, head, panel)));
        }
    });
}

}  // namespace ucm::esa
