#include "esa/prompt.h"

#include <algorithm>

namespace ucm::esa {

void Prompt::Pack(const KvArena& arena, const SparseOptions& options,
                  std::span<const int32_t> candidate_blocks, const cpu::Kernels& kernels,
                  ThreadPool& pool) {
    const ArenaShape& shape = arena.shape();
    const bool oracle = options.score == Score::kOracle;
    const bool described = options.score == Score::kRepresentation;
    const int64_t parts = oracle ? 1 : cpu::PartsOf(shape.representation.kind);
    first_layer_ = options.dense_layers;
    kv_heads_ = shape.num_kv_heads;
    rows_per_block_ = oracle ? shape.block_size : described ? shape.descriptions() : 0;
    depth_ = parts * shape.head_dim;
    const int64_t heads = (shape.num_layers - first_layer_) * kv_heads_;
    panels_.Reserve(heads * panels() * depth_ * cpu::kPanelKeys);
    const auto pack_panel = [&](int64_t layer, int64_t head, int64_t panel) {
        const int64_t first = panel * cpu::kPanelKeys;
        const int64_t count = std::min(cpu::kPanelKeys, rows() - first);
        const int64_t offset = oracle ? arena.head_offset(head)
                                      : arena.description_offset() +
                                            head * arena.descriptions_bytes();
        for (int64_t part = 0; part < parts; ++part) {
            const void* vectors[cpu::kPanelKeys];
            for (int64_t i = 0; i < count; ++i) {
                const int64_t row = first + i;
                const auto candidate = static_cast<std::size_t>(row / rows_per_block_);
                vectors[i] = arena.Piece(candidate_blocks[candidate], layer) + offset +
                             (row % rows_per_block_ * parts + part) * arena.row_bytes();
            }
            float* out = const_cast<float*>(Panel(layer, head, panel));
            kernels.pack_keys({vectors, count, shape.dtype, shape.head_dim},
                              out + part * shape.head_dim * cpu::kPanelKeys);
        }
    };
    pool.Run(heads, [&](int64_t task, int) {
        for (int64_t panel = 0; panel < panels(); ++panel) {
            pack_panel(first_layer_ + task / kv_heads_, task % kv_heads_, panel);
        }
    });
}

}  // namespace ucm::esa
