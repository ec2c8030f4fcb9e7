// Prefill and decode attention beside the machine's roofs, measured in the same run: what
// `ucm bench attention` runs. Prints one JSON object per line: the machine first, then each case.
// Usage: attention_bench [key=value...], keys and defaults as in `Options`; UCM_CPU_ISA chooses the
// kernels. phase=sparse prints the cost of sparse attention as text instead.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "attention/paged_attention.h"
#include "bench/roofs.h"
#include "bench/sparse_bench.h"
#include "cpu/dispatch.h"
#include "tensor/tensor.h"

namespace ucm::bench {
namespace {

struct Options {
    /** all, prefill, decode, sparse, roofs. */
    std::string phase = "all";
    int threads = 2;
    int64_t query_heads = 14;
    int64_t kv_heads = 2;
    int64_t head_dim = 64;
    int64_t block_size = 16;
    Dtype dtype = Dtype::kBfloat16;
    /** Prompts of prefill, contexts of decode. */
    std::vector<int64_t> lengths = {4096, 16384};
    /** Sequences that decode at once. */
    std::vector<int64_t> batches = {1, 8};
    int repeats = 7;
    /** wall, or cpu: processor time of one thread, on a machine that has other work. */
    std::string timer = "wall";
};

/** Decode walks over enough layers that no layer's keys stay in a cache. */
constexpr int64_t kDecodeBytes = int64_t{256} << 20;
/** Of an arena. */
constexpr int64_t kMaxLayers = 4096;

const char* NameOf(Dtype dtype) {
    return dtype == Dtype::kFloat32 ? "float32" : dtype == Dtype::kBfloat16 ? "bfloat16" : "float16";
}

/** Sequences with `context` tokens each, of which they compute the last `rows` in a step. */
class Case {
  public:
    Case(const Options& options, int64_t context, int64_t batch, int64_t layers, bool is_scattered,
         const cpu::Kernels& kernels, ThreadPool& pool)
        : options_(options), context_(context), batch_(batch), kernels_(kernels), pool_(pool) {
        const int64_t blocks = (context + options.block_size - 1) / options.block_size;
        const Status status = KvArena::Create(
            {.num_blocks = blocks * batch,
             .num_layers = layers,
             .block_size = options.block_size,
             .num_query_heads = options.query_heads,
             .num_kv_heads = options.kv_heads,
             .head_dim = options.head_dim,
             .dtype = options.dtype},
            &arena_);
        if (!status.ok()) {
            std::fprintf(stderr, "%s\n", status.message().c_str());
            std::exit(1);
        }
        attention_ = std::make_unique<PagedAttention>(*arena_, Rope{}, kernels, pool);
        block_ids_.resize(static_cast<std::size_t>(blocks * batch));
        std::iota(block_ids_.begin(), block_ids_.end(), 0);
        if (is_scattered) std::shuffle(block_ids_.begin(), block_ids_.end(), std::mt19937(1));
    }

    void Begin(int64_t rows) {
        std::vector<int32_t> starts = {0}, lengths, tables = {0};
        const auto blocks = static_cast<int32_t>(static_cast<int64_t>(block_ids_.size()) / batch_);
        for (int64_t s = 0; s < batch_; ++s) {
            starts.push_back(starts.back() + static_cast<int32_t>(rows));
            lengths.push_back(static_cast<int32_t>(context_));
            tables.push_back(tables.back() + blocks);
        }
        if (!attention_->BeginStep({starts, lengths, tables, block_ids_}).ok()) std::abort();
        Allocate(q_, rows * options_.query_heads);
        Allocate(k_, rows * options_.kv_heads);
        Allocate(v_, rows * options_.kv_heads);
        out_.resize(q_.size());
    }

    /** Gives every page of the arena memory of its own: unwritten ones would all read one zero
     * page. */
    void WriteAllBlocks() {
        uint8_t* data = arena_->Keys(0, 0, 0);
        std::fill(data, data + arena_->bytes(), uint8_t{1});
    }

    void Forward(int64_t layer) {
        const int64_t q_width = options_.query_heads * options_.head_dim;
        const int64_t kv_width = options_.kv_heads * options_.head_dim;
        attention_->Forward({layer, q_.data(), q_width, k_.data(), kv_width, v_.data(), kv_width,
                             nullptr, nullptr, 0.0f},
                            out_.data());
    }

  private:
    void Allocate(std::vector<float>& values, int64_t heads) {
        values.resize(static_cast<std::size_t>(batch_ * heads * options_.head_dim));
        FillRandom({kernels_, pool_}, static_cast<uint64_t>(heads), 1.0f, values.data(),
                   static_cast<int64_t>(values.size()));
    }

    const Options& options_;
    const int64_t context_;
    const int64_t batch_;
    const cpu::Kernels& kernels_;
    ThreadPool& pool_;
    std::unique_ptr<KvArena> arena_;
    std::unique_ptr<PagedAttention> attention_;
    std::vector<int32_t> block_ids_;
    std::vector<float> q_, k_, v_, out_;
};

void BenchPrefill(const Options& options, int64_t tokens, const Roofs& roofs,
                  const cpu::Kernels& kernels, ThreadPool& pool) {
    Case prefill(options, tokens, 1, 1, false, kernels, pool);
    prefill.Begin(tokens);
    const double seconds = MedianSeconds(options.repeats, [&] { prefill.Forward(0); });
    const double pairs = 0.5 * static_cast<double>(tokens * (tokens + 1) * options.query_heads);
    const double flops = 4.0 * pairs * static_cast<double>(options.head_dim) / seconds;
    const bool multiplies_pairs = kernels.pairs != nullptr && options.dtype == Dtype::kBfloat16;
    const double roof = multiplies_pairs ? roofs.bf16_flops_per_s : roofs.fp32_flops_per_s;
    std::printf("{\"kind\": \"prefill\", \"length\": %ld, \"batch\": 1, \"order\": \"sequence\", "
                "\"secondsPerLayer\": %.6e, \"rate\": %.4e, \"roof\": %.4e}\n",
                tokens, seconds, flops, roof);
}

void BenchDecode(const Options& options, int64_t context, int64_t batch, bool is_scattered,
                 const Roofs& roofs, const cpu::Kernels& kernels, ThreadPool& pool) {
    const int64_t layer_bytes = 2 * context * batch * options.kv_heads * options.head_dim *
                                BytesOf(options.dtype);
    const int64_t layers = std::min(kDecodeBytes / layer_bytes + 1, kMaxLayers);
    Case decode(options, context, batch, layers, is_scattered, kernels, pool);
    decode.WriteAllBlocks();
    decode.Begin(1);
    const double seconds = MedianSeconds(options.repeats, [&] {
        for (int64_t layer = 0; layer < layers; ++layer) decode.Forward(layer);
    });
    std::printf("{\"kind\": \"decode\", \"length\": %ld, \"batch\": %ld, \"order\": \"%s\", "
                "\"secondsPerLayer\": %.6e, \"rate\": %.4e, \"roof\": %.4e}\n",
                context, batch, is_scattered ? "random" : "sequence",
                seconds / static_cast<double>(layers),
                static_cast<double>(layer_bytes * layers) / seconds, roofs.read_bytes_per_s);
}

void Run(const Options& options, const cpu::Kernels& kernels) {
    if (options.timer == "cpu") g_timer = Timer::kProcessorTime;
    ThreadPool pool(options.threads);
    const Roofs roofs = MeasureRoofs(pool, kernels);
    if (options.phase == "sparse") {
        std::printf("%s, %d threads: reads %.1f GB/s, multiply-adds %.1f GFLOP/s\n", kernels.name,
                    options.threads, roofs.read_bytes_per_s / 1e9, roofs.fp32_flops_per_s / 1e9);
        return BenchSparse(kernels, pool, roofs.read_bytes_per_s);
    }
    std::printf("{\"kind\": \"machine\", %s, \"kvCacheDtype\": \"%s\"}\n",
                JsonOf(roofs, kernels, pool).c_str(), NameOf(options.dtype));
    for (const int64_t length : options.lengths) {
        if (options.phase == "all" || options.phase == "prefill") {
            BenchPrefill(options, length, roofs, kernels, pool);
            std::fflush(stdout);
        }
        if (options.phase != "all" && options.phase != "decode") continue;
        for (const int64_t batch : options.batches) {
            for (const bool is_scattered : {false, true}) {
                BenchDecode(options, length, batch, is_scattered, roofs, kernels, pool);
                std::fflush(stdout);
            }
        }
    }
}

std::vector<int64_t> ReadList(const std::string& text) {
    std::vector<int64_t> numbers;
    std::istringstream stream(text);
    for (std::string number; std::getline(stream, number, ',');) {
        numbers.push_back(std::atoll(number.c_str()));
    }
    return numbers;
}

/** False for an argument that is none. */
bool ReadArgument(const std::string& argument, Options* options) {
    const std::size_t equals = argument.find('=');
    if (equals == std::string::npos) return false;
    const std::string key = argument.substr(0, equals);
    const std::string value = argument.substr(equals + 1);
    if (key == "phase") options->phase = value;
    else if (key == "threads") options->threads = std::atoi(value.c_str());
    else if (key == "query-heads") options->query_heads = std::atoll(value.c_str());
    else if (key == "kv-heads") options->kv_heads = std::atoll(value.c_str());
    else if (key == "head-dim") options->head_dim = std::atoll(value.c_str());
    else if (key == "block-size") options->block_size = std::atoll(value.c_str());
    else if (key == "timer") options->timer = value;
    else if (key == "repeats") options->repeats = std::atoi(value.c_str());
    else if (key == "lengths") options->lengths = ReadList(value);
    else if (key == "batches") options->batches = ReadList(value);
    else if (key == "dtype") {
        options->dtype = value == "float32"   ? Dtype::kFloat32
                         : value == "float16" ? Dtype::kFloat16
                                              : Dtype::kBfloat16;
    } else return false;
    return true;
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
    ucm::bench::Options options;
    for (int i = 1; i < argc; ++i) {
        if (ucm::bench::ReadArgument(argv[i], &options)) continue;
        std::fprintf(stderr, "%s is no key=value that attention_bench knows\n", argv[i]);
        return 2;
    }
    ucm::bench::Run(options, *kernels);
    return 0;
}
