// What a step refuses.
#include "attention/step.h"

#include <limits>

#include "test/check.h"

namespace ucm::test {
namespace {

constexpr ArenaShape kShape = {.num_blocks = 8,
                               .num_layers = 2,
                               .block_size = 16,
                               .num_query_heads = 4,
                               .num_kv_heads = 2,
                               .head_dim = 64,
                               .dtype = Dtype::kFloat32};

struct Batch {
    std::vector<int32_t> query_start = {0, 3, 4};
    std::vector<int32_t> context_lens = {20, 5};
    std::vector<int32_t> block_start = {0, 2, 3};
    std::vector<int32_t> block_ids = {4, 2, 7};
};

void CheckMessage(const Batch& batch, const std::string& expected) {
    Step step;
    const Status status = step.Build(
        kShape, {}, {batch.query_start, batch.context_lens, batch.block_start, batch.block_ids}, 2,
        kPanelTileRows);
    UCM_CHECK_MESSAGE(status.message() == expected, status.message());
    UCM_CHECK(step.rows() == (expected.empty() ? 4 : 0));
}

}  // namespace

UCM_TEST(StepChecksTheBatch) {
    CheckMessage({}, "");
    CheckMessage({.context_lens = {}}, "beginStep: contextLens is empty");
    CheckMessage({.query_start = {0, 3}}, "beginStep: queryStart has 2 elements, expected 3");
    CheckMessage({.query_start = {1, 3, 4}}, "beginStep: queryStart[0] is 1, expected 0");
    CheckMessage({.query_start = {0, 3, 3}}, "beginStep: queryStart[2] is 3, expected at least 4");
    CheckMessage({.block_start = {0, 2, 1}}, "beginStep: blockStart[2] is 1, expected at least 2");
    CheckMessage({.block_start = {0, 2, 4}},
                 "beginStep: blockStart[2] is 4, but blockIds has 3 elements");
    CheckMessage({.block_ids = {4, 8, 7}}, "beginStep: blockIds[1] is 8, expected 0 to 7");
    CheckMessage({.block_ids = {-1, 2, 7}}, "beginStep: blockIds[0] is -1, expected 0 to 7");
    CheckMessage({.context_lens = {33, 5}},
                 "beginStep: contextLens[0] is 33, expected from 3 (its rows) to 32 (its 2 blocks "
                 "of 16 tokens)");
    CheckMessage({.context_lens = {2, 5}},
                 "beginStep: contextLens[0] is 2, expected from 3 (its rows) to 32 (its 2 blocks "
                 "of 16 tokens)");
    CheckMessage({.block_ids = {4, 7, 7}},
                 "beginStep: block 7 is written by sequence 0 and again by sequence 1; each "
                 "written block needs one owner");
    // Block 4 of the first sequence is only read: sharing it is fine.
    CheckMessage({.context_lens = {20, 17}, .block_start = {0, 2, 4}, .block_ids = {4, 2, 4, 7}},
                 "");
}

UCM_TEST(StepWorkCoversEveryRowAndSegmentOnce) {
    const std::vector<int32_t> query_start = {0, 100, 101};
    const std::vector<int32_t> context_lens = {900, 1500};
    ArenaShape shape = kShape;
    shape.num_blocks = 200;
    std::vector<int32_t> block_ids(151);
    for (std::size_t i = 0; i < block_ids.size(); ++i) block_ids[i] = static_cast<int32_t>(i);
    const std::vector<int32_t> block_start = {0, 57, 151};
    using Case = std::pair<int, int64_t>;
    for (const auto& [threads, most_rows] : {Case(1, kPanelTileRows), Case(2, kPanelTileRows),
                                             Case(7, kPanelTileRows), Case(2, kColumnTileRows)}) {
        Step step;
        const BatchView batch = {query_start, context_lens, block_start, block_ids};
        UCM_CHECK(step.Build(shape, {}, batch, threads, most_rows).ok());
        // (sequence, head, row) -> segments covered.
        std::vector<std::vector<int>> seen(2 * 2 * 200, std::vector<int>(6, 0));
        for (const WorkItem& item : step.work(0).items) {
            UCM_CHECK(item.rows >= 1 && item.rows <= most_rows);
            for (int64_t row = item.row_begin; row < item.row_begin + item.rows; ++row) {
                for (int64_t s = item.segment_begin; s < item.segment_end; ++s) {
                    const int64_t at = (item.sequence * 2 + item.kv_head) * 200 + row;
                    ++seen[static_cast<std::size_t>(at)][static_cast<std::size_t>(s)];
                }
            }
        }
        for (int64_t sequence = 0; sequence < 2; ++sequence) {
            const int64_t rows = sequence == 0 ? 200 : 2;
            for (int64_t head = 0; head < 2; ++head) {
                for (int64_t row = 0; row < rows; ++row) {
                    const int64_t position = sequence == 0 ? 800 + row / 2 : 1499;
                    const auto& segments =
                        seen[static_cast<std::size_t>((sequence * 2 + head) * 200 + row)];
                    for (int64_t s = 0; s * kSegmentKeys <= position; ++s) {
                        UCM_CHECK(segments[static_cast<std::size_t>(s)] == 1);
                    }
                }
            }
        }
    }
}

UCM_TEST(ArenaChecksItsShape) {
    const auto message = [](ArenaShape shape) {
        std::unique_ptr<KvArena> arena;
        return KvArena::Create(shape, &arena).message();
    };
    ArenaShape shape = kShape;
    UCM_CHECK(message(shape).empty());
    shape.block_size = 24;
    UCM_CHECK(message(shape) == "createArena: blockSize is 24, expected a power of two");
    shape = kShape;
    shape.head_dim = 36;
    UCM_CHECK(message(shape) == "createArena: headDim is 36, expected a multiple of 8");
    shape = kShape;
    shape.num_query_heads = 5;
    UCM_CHECK(message(shape) == "createArena: numQueryHeads 5 is not a multiple of numKvHeads 2");
    shape = kShape;
    shape.num_blocks = std::numeric_limits<int32_t>::max();
    shape.num_layers = 4096;
    std::unique_ptr<KvArena> arena;
    const Status status = KvArena::Create(shape, &arena);
    UCM_CHECK(status.code() == StatusCode::kOutOfMemory);
}

}  // namespace ucm::test
