// Prefill and decode attention beside the machine's roofs, measured in the same run.
// Usage: attention_bench [all|prefill|decode|sparse] [threads...]; UCM_CPU_ISA chooses the kernels.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "attention/paged_attention.h"
#include "bench/roofs.h"
#include "bench/sparse_bench.h"
#include "cpu/dispatch.h"
#include "tensor/tensor.h"

namespace ucm::bench {
namespace {

struct Model {
    const char* name;
    int64_t query_heads;
    int64_t kv_heads;
    int64_t head_dim;
};

constexpr Model kModels[] = {{"14/2 heads x 64", 14, 2, 64}, {"32/8 heads x 128", 32, 8, 128}};
constexpr int64_t kBlockSize = 16;
/** Decode walks over enough layers that no layer's keys stay in a cache. */
constexpr int64_t kDecodeBytes = int64_t{256} << 20;

struct Roofs {
    double sequential_bytes;
    double flops;
};

const char* NameOf(Dtype dtype) {
    return dtype == Dtype::kFloat32 ? "fp32" : dtype == Dtype::kBfloat16 ? "bf16" : "fp16";
}

/** One sequence with `context` tokens in an arena of its own. */
class Case {
  public:
    Case(const Model& model, Dtype dtype, int64_t context, int64_t layers,
         const cpu::Kernels& kernels, ThreadPool& pool)
        : model_(model), context_(context), kernels_(kernels), pool_(pool) {
        const int64_t blocks = (context + kBlockSize - 1) / kBlockSize;
        const Status status = KvArena::Create(
            {blocks, layers, kBlockSize, model.query_heads, model.kv_heads, model.head_dim, dtype},
            &arena_);
        if (!status.ok()) std::abort();
        attention_ = std::make_unique<PagedAttention>(*arena_, Rope{}, kernels, pool);
        block_ids_.resize(static_cast<std::size_t>(blocks));
        std::iota(block_ids_.rbegin(), block_ids_.rend(), 0);
        Allocate(q_, model.query_heads);
        Allocate(k_, model.kv_heads);
        Allocate(v_, model.kv_heads);
        out_.resize(q_.size());
    }

    void Begin(int64_t rows) {
        const int32_t query_start[] = {0, static_cast<int32_t>(rows)};
        const int32_t context_lens[] = {static_cast<int32_t>(context_)};
        const int32_t block_start[] = {0, static_cast<int32_t>(block_ids_.size())};
        if (!attention_->BeginStep({query_start, context_lens, block_start, block_ids_}).ok()) {
            std::abort();
        }
    }

    /** Gives every page of the arena memory of its own: unwritten ones would all read one zero
     * page. */
    void WriteAllBlocks() {
        uint8_t* data = arena_->Keys(0, 0, 0);
        std::fill(data, data + arena_->bytes(), uint8_t{1});
    }

    void Forward(int64_t layer) {
        const int64_t dim = model_.head_dim;
        attention_->Forward(
            {layer, q_.data(), model_.query_heads * dim, k_.data(), model_.kv_heads * dim,
             v_.data(), model_.kv_heads * dim, nullptr, nullptr, 0.0f},
            out_.data());
    }

    const KvArena& arena() const { return *arena_; }

  private:
    void Allocate(std::vector<float>& values, int64_t heads) {
        values.resize(static_cast<std::size_t>(context_ * heads * model_.head_dim));
        FillRandom({kernels_, pool_}, static_cast<uint64_t>(heads), 1.0f, values.data(),
                   static_cast<int64_t>(values.size()));
    }

    const Model model_;
    const int64_t context_;
    const cpu::Kernels& kernels_;
    ThreadPool& pool_;
    std::unique_ptr<KvArena> arena_;
    std::unique_ptr<PagedAttention> attention_;
    std::vector<int32_t> block_ids_;
    std::vector<float> q_, k_, v_, out_;
};

void BenchPrefill(const Model& model, Dtype dtype, int64_t tokens, const Roofs& roofs,
                  const cpu::Kernels& kernels, ThreadPool& pool) {
    Case prefill(model, dtype, tokens, 1, kernels, pool);
    prefill.Begin(tokens);
    const double seconds = BestSeconds(3, [&] { prefill.Forward(0); });
    const double pairs = 0.5 * static_cast<double>(tokens * (tokens + 1) * model.query_heads);
    const double flops = 4.0 * pairs * static_cast<double>(model.head_dim) / seconds;
    std::printf("prefill %6ld tokens  %s  %-16s %9.3f ms/layer  %7.1f GFLOP/s  %3.0f %% of roof\n",
                tokens, NameOf(dtype), model.name, seconds * 1e3, flops / 1e9,
                100.0 * flops / roofs.flops);
}

void BenchDecode(const Model& model, Dtype dtype, int64_t context, const Roofs& roofs,
                 const cpu::Kernels& kernels, ThreadPool& pool) {
    const int64_t layer_bytes = 2 * context * model.kv_heads * model.head_dim * BytesOf(dtype);
    const int64_t layers = kDecodeBytes / layer_bytes + 1;
    Case decode(model, dtype, context, layers, kernels, pool);
    decode.WriteAllBlocks();
    decode.Begin(1);
    const double seconds = BestSeconds(5, [&] {
        for (int64_t layer = 0; layer < layers; ++layer) decode.Forward(layer);
    });
    const double rate = static_cast<double>(layer_bytes * layers) / seconds;
    // What one KV head has of a block lies in one piece; the blocks are anywhere.
    const int64_t piece = kBlockSize * decode.arena().row_bytes();
    const double scattered = MeasureScatteredBandwidth(pool, piece);
    std::printf(
        "decode  %6ld context %s  %-16s %9.3f ms/layer  %7.1f GB/s     %3.0f %% of sequential "
        "reads, "
        "%3.0f %% of reads of %ld KiB (%.1f GB/s)\n",
        context, NameOf(dtype), model.name, seconds * 1e3 / static_cast<double>(layers), rate / 1e9,
        100.0 * rate / roofs.sequential_bytes, 100.0 * rate / scattered, piece >> 10,
        scattered / 1e9);
}

void BenchThreads(int threads, const std::string& part, const cpu::Kernels& kernels) {
    ThreadPool pool(threads);
    const Roofs roofs = {MeasureReadBandwidth(pool), MeasureFlops(pool, kernels.width)};
    std::printf("\n%s, %d threads: reads %.1f GB/s, multiply-adds %.1f GFLOP/s, int8 %.1f GOP/s\n",
                kernels.name, threads, roofs.sequential_bytes / 1e9, roofs.flops / 1e9,
                MeasureInt8Ops(pool) / 1e9);
    if (part == "roofs") return;
    if (part == "all" || part == "sparse") BenchSparse(kernels, pool, roofs.sequential_bytes);
    if (part == "sparse") return;
    for (const Model& model : kModels) {
        for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16}) {
            for (const int64_t tokens : {512, 2048}) {
                if (part == "decode") break;
                BenchPrefill(model, dtype, tokens, roofs, kernels, pool);
            }
            for (const int64_t context : {2048, 20000}) {
                if (part == "prefill") break;
                BenchDecode(model, dtype, context, roofs, kernels, pool);
            }
        }
    }
}

}  // namespace
}  // namespace ucm::bench

int main(int argc, char** argv) {
    const ucm::cpu::Kernels* kernels = nullptr;
    const ucm::Status status = ucm::cpu::SelectedKernels(&kernels);
    if (!status.ok()) {
        std::fprintf(stderr, "%s\n", status.message().c_str());
        return 1;
    }
    const std::string part = argc > 1 ? argv[1] : "all";
    std::vector<int> threads = {1, 2};
    if (argc > 2) threads.clear();
    for (int i = 2; i < argc; ++i) threads.push_back(std::atoi(argv[i]));
    for (const int count : threads) ucm::bench::BenchThreads(count, part, *kernels);
    return 0;
}
