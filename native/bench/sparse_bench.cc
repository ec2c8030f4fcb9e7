#include "bench/sparse_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "attention/paged_attention.h"
#include "bench/roofs.h"
#include "esa/sparse_attention.h"
#include "store/dram_store.h"
#include "tensor/tensor.h"

namespace ucm::bench {
namespace {

struct Model {
    const char* name;
    int64_t layers;
    int64_t query_heads;
    int64_t kv_heads;
    int64_t head_dim;
};

constexpr Model kModels[] = {{"0.5B: 24 layers, 14/2 x 64", 24, 14, 2, 64},
                             {"7B: 4 layers, 28/4 x 128", 4, 28, 4, 128}};
constexpr int64_t kBlockSize = 16;
constexpr int64_t kInit = 1;
constexpr int64_t kLocal = 2;
constexpr int64_t kStride = 5;
/** Blocks for what a run generates. */
constexpr int64_t kGenerated = 8;
/** Of a query with the one of the step before. */
constexpr float kStepCosine = 0.95f;

void Check(const Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::abort();
}

std::vector<BlockKey> KeysOf(int64_t count) {
    std::vector<BlockKey> keys(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const uint64_t words[] = {i * 0x9e3779b97f4a7c15u + 1, i};
        std::memcpy(keys[i].bytes.data(), words, sizeof(words));
    }
    return keys;
}

/** Prompts of one length in an arena, which decode in step. */
class Batch {
  public:
    Batch(const Model& model, int64_t context, int64_t sequences, const cpu::Kernels& kernels,
          const std::shared_ptr<ThreadPool>& pool)
        : model_(model), context_(context), sequences_(sequences), kernels_(kernels), pool_(pool) {
        const int64_t blocks = sequences * (context / kBlockSize + kGenerated);
        std::unique_ptr<KvArena> arena;
        Check(KvArena::Create({.num_blocks = blocks,
                               .num_layers = model.layers,
                               .block_size = kBlockSize,
                               .num_query_heads = model.query_heads,
                               .num_kv_heads = model.kv_heads,
                               .head_dim = model.head_dim,
                               .dtype = Dtype::kBfloat16,
                               .representation = {cpu::Representation::kCuboid, kBlockSize}},
                              &arena));
        arena_ = std::move(arena);
        attention_ = std::make_unique<PagedAttention>(*arena_, Rope{}, kernels, *pool);
        for (int64_t s = 0; s < sequences; ++s) {
            auto& table = tables_.emplace_back(static_cast<std::size_t>(blocks / sequences));
            std::iota(table.rbegin(), table.rend(), static_cast<int32_t>(s * blocks / sequences));
        }
        FillBlocks(blocks);
        q_.resize(static_cast<std::size_t>(sequences * model.layers * q_width()));
        FillRandom({kernels, *pool}, 1, 1.0f, q_.data(), static_cast<int64_t>(q_.size()));
        out_.resize(static_cast<std::size_t>(sequences * q_width()));
    }

    /** Milliseconds of one dense step; the best of some. */
    double MeasureDense() {
        Begin(context_ + 1, context_, 0, nullptr, nullptr);
        return 1e3 * BestSeconds(3, [&] { ForwardAll(); });
    }

    void MeasureSparse(double ratio, double dense_ms);

  private:
    int64_t q_width() const { return model_.query_heads * model_.head_dim; }
    int64_t kv_width() const { return model_.kv_heads * model_.head_dim; }

    /** Each block as a sequence of its own, so that nothing long is attended. */
    void FillBlocks(int64_t blocks) {
        constexpr int64_t kAtOnce = 64;
        constexpr int64_t kRows = kAtOnce * kBlockSize;
        std::vector<float> q(static_cast<std::size_t>(kRows * q_width()));
        std::vector<float> kv(static_cast<std::size_t>(2 * kRows * kv_width()));
        std::vector<float> out(q.size());
        for (int64_t first = 0; first < blocks; first += kAtOnce) {
            const int64_t count = std::min(kAtOnce, blocks - first);
            std::vector<int32_t> starts, lengths, tables, ids;
            for (int64_t b = 0; b <= count; ++b) {
                starts.push_back(static_cast<int32_t>(b * kBlockSize));
                tables.push_back(static_cast<int32_t>(b));
                if (b == count) break;
                lengths.push_back(kBlockSize);
                ids.push_back(static_cast<int32_t>(first + b));
            }
            Check(attention_->BeginStep({starts, lengths, tables, ids}));
            for (int64_t layer = 0; layer < model_.layers; ++layer) {
                FillRandom({kernels_, *pool_}, static_cast<uint64_t>(first * model_.layers + layer),
                           1.0f, kv.data(), static_cast<int64_t>(kv.size()));
                attention_->Forward({layer, q.data(), q_width(), kv.data(), kv_width(),
                                     kv.data() + kRows * kv_width(), kv_width(), nullptr, nullptr,
                                     0.0f},
                                    out.data());
            }
        }
    }

    /** A decode step at a place in the tables, of which `left_out` candidates are missing. */
    void Begin(int64_t length, int64_t position, int64_t left_out, const std::vector<int32_t>* ids,
               esa::SparseAttention* sparse) {
        std::vector<int32_t> starts = {0}, lengths, block_start = {0}, blocks, positions;
        for (const std::vector<int32_t>& table : tables_) {
            starts.push_back(starts.back() + 1);
            lengths.push_back(static_cast<int32_t>(length - left_out * kBlockSize));
            const auto kept = table.begin() + kInit + candidates() - left_out;
            blocks.insert(blocks.end(), table.begin(), kept);
            blocks.insert(blocks.end(), kept + left_out, table.end());
            block_start.push_back(static_cast<int32_t>(blocks.size()));
            positions.push_back(static_cast<int32_t>(position));
        }
        std::vector<SparseRow> rows;
        if (sparse != nullptr) Check(sparse->BeginStep(*ids, starts, &rows));
        Check(attention_->BeginStep({starts, lengths, block_start, blocks, positions, rows}));
    }

    void ForwardAll() {
        for (int64_t layer = 0; layer < model_.layers; ++layer) {
            const float* q = q_.data() + layer * sequences_ * q_width();
            attention_->Forward({layer, q, q_width(), q, q_width(), q, q_width(), nullptr, nullptr,
                                 0.0f},
                                out_.data());
        }
    }

    void MoveQueries() {
        std::vector<float> noise(q_.size());
        FillRandom({kernels_, *pool_}, ++moves_, std::sqrt(1.0f - kStepCosine * kStepCosine),
                   noise.data(), static_cast<int64_t>(noise.size()));
        for (std::size_t i = 0; i < q_.size(); ++i) q_[i] = kStepCosine * q_[i] + noise[i];
    }

    int64_t candidates() const { return context_ / kBlockSize - kInit - kLocal; }

    const Model model_;
    const int64_t context_;
    const int64_t sequences_;
    const cpu::Kernels& kernels_;
    const std::shared_ptr<ThreadPool> pool_;
    std::shared_ptr<KvArena> arena_;
    std::unique_ptr<PagedAttention> attention_;
    std::vector<std::vector<int32_t>> tables_;
    std::vector<float> q_, out_;
    uint64_t moves_ = 1000;
};

void Batch::MeasureSparse(double ratio, double dense_ms) {
    const auto top_k = static_cast<int64_t>(static_cast<double>(candidates()) * ratio);
    const std::vector<BlockKey> keys = KeysOf(candidates());
    std::shared_ptr<DramStore> store;
    const BlockShape shape{arena_->bytes_per_block(), static_cast<int32_t>(model_.layers),
                           static_cast<int32_t>(kBlockSize)};
    Check(DramStore::Open({.shape = shape,
                           .capacity_bytes = (candidates() + 8) * (shape.bytes_per_block + 4096)},
                          &store));
    std::vector<DumpSource> sources;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const int32_t block = tables_[0][static_cast<std::size_t>(kInit) + i];
        sources.push_back({keys[i], arena_->Piece(block, 0)});
    }
    store->Dump(sources, [](const auto&) {});
    std::shared_ptr<esa::SparseAttention> sparse;
    Check(esa::SparseAttention::Create(arena_, store, {.stride = kStride}, kernels_, pool_,
                                       &sparse));
    std::vector<int32_t> ids(tables_.size());
    std::iota(ids.begin(), ids.end(), 0);
    for (const int32_t id : ids) {
        Check(sparse->Watch(id, {kInit, candidates(), top_k}, tables_[static_cast<std::size_t>(id)],
                            keys));
    }
    int64_t length = context_ + 1;
    Begin(length++, context_, 0, &ids, sparse.get());
    ForwardAll();
    sparse->FinishStep();
    for (const int32_t id : ids) {
        // The first of its candidates' blocks.
        const std::span<const int32_t> table = tables_[static_cast<std::size_t>(id)];
        Check(sparse->Enter(id, table.subspan(kInit, static_cast<std::size_t>(top_k))));
    }
    const auto run = [&](int64_t steps, double* attention_seconds) {
        for (int64_t i = 0; i < steps; ++i) {
            MoveQueries();
            const auto start = esa::Clock::now();
            if (!sparse->Settle(ids).empty()) std::abort();
            Begin(length, length - 1, candidates() - top_k, &ids, sparse.get());
            ++length;
            ForwardAll();
            sparse->FinishStep();
            *attention_seconds += std::chrono::duration<double>(esa::Clock::now() - start).count();
        }
    };
    double seconds = 0.0;
    run(kStride, &seconds);
    const auto value = [&](esa::Counter counter) {
        return static_cast<double>(sparse->counters().Get(counter));
    };
    constexpr int64_t kSteps = 20 * kStride;
    const double before[] = {value(esa::Counter::kSelectMicros), value(esa::Counter::kLoadMicros),
                             value(esa::Counter::kSwitchMicros), value(esa::Counter::kWaitMicros),
                             value(esa::Counter::kLoadedPieces), value(esa::Counter::kKeptPieces)};
    seconds = 0.0;
    run(kSteps, &seconds);
    const auto per_step = [&](esa::Counter counter, int at) {
        return (value(counter) - before[at]) / 1e3 / static_cast<double>(kSteps);
    };
    const double sparse_ms = 1e3 * seconds / static_cast<double>(kSteps);
    const double loaded = value(esa::Counter::kLoadedPieces) - before[4];
    const double kept = value(esa::Counter::kKeptPieces) - before[5];
    const double select_ms = per_step(esa::Counter::kSelectMicros, 0);
    std::printf("    ratio %.1f  %8.3f ms/step  %5.1f x  select %6.3f (%4.1f %% of what it saves)  "
                "load %6.3f  switch %6.3f  wait %6.3f  new %3.0f %%  %.1f MB beside the arena\n",
                ratio, sparse_ms, dense_ms / sparse_ms, select_ms,
                100.0 * select_ms / (dense_ms - sparse_ms), per_step(esa::Counter::kLoadMicros, 1),
                per_step(esa::Counter::kSwitchMicros, 2), per_step(esa::Counter::kWaitMicros, 3),
                100.0 * loaded / (loaded + kept),
                static_cast<double>(sparse->representation_bytes()) / 1e6);
    sparse->Dispose();
}

}  // namespace

void BenchSparse(const cpu::Kernels& kernels, ThreadPool& pool, double bandwidth) {
    // Shared without being owned: the caller's pool outlives all of this.
    const std::shared_ptr<ThreadPool> shared(&pool, [](ThreadPool*) {});
    for (const Model& model : kModels) {
        for (const int64_t sequences : {1, 8}) {
            for (const int64_t context : {4096, 8192, 16384, 32768}) {
                if (const char* only = std::getenv("UCM_BENCH_CASE");
                    only != nullptr &&
                    only != std::to_string(model.layers) + "," + std::to_string(sequences) + "," +
                                std::to_string(context)) {
                    continue;
                }
                Batch batch(model, context, sequences, kernels, shared);
                const double dense_ms = batch.MeasureDense();
                const double bytes = 4.0 * static_cast<double>(context * sequences * model.layers *
                                                               model.kv_heads * model.head_dim);
                std::printf("esa  %-28s batch %ld  context %5ld  dense %8.2f ms/step  %5.1f GB/s, "
                            "%2.0f %% of sequential reads\n",
                            model.name, sequences, context, dense_ms, bytes / dense_ms / 1e6,
                            100.0 * bytes / dense_ms * 1e3 / bandwidth);
                for (const double ratio : {0.3, 0.1}) batch.MeasureSparse(ratio, dense_ms);
                std::fflush(stdout);
            }
        }
    }
}

}  // namespace ucm::bench
