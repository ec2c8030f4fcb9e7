#include "bench/roofs.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <cstring>

#include "cpu/dispatch.h"

namespace ucm::bench {
namespace {

constexpr int64_t kReadBytes = int64_t{512} << 20;
constexpr int64_t kPieceBytes = int64_t{4} << 20;
constexpr int64_t kFlopRounds = 4'000'000;
constexpr int64_t kTileRounds = 1'000'000;
constexpr int kChains = 12;

/** Keeps the compiler from removing a computation. */
std::atomic<int64_t> g_sink;

/** Four streams with software prefetch: the pattern that reads fastest here. */
__attribute__((target("avx2"))) int64_t ReadPiece(const uint8_t* data) {
    constexpr int64_t kStream = kPieceBytes / 4;
    __m256i sum = _mm256_setzero_si256();
    for (int64_t i = 0; i < kStream; i += 64) {
        for (int64_t s = 0; s < 4; ++s) {
            const uint8_t* line = data + s * kStream + i;
            _mm_prefetch(reinterpret_cast<const char*>(line + 1024), _MM_HINT_T0);
            const auto* p = reinterpret_cast<const __m256i*>(line);
            sum = _mm256_xor_si256(
                sum, _mm256_xor_si256(_mm256_load_si256(p), _mm256_load_si256(p + 1)));
        }
    }
    return _mm256_extract_epi64(sum, 0);
}

/** Memory in huge pages, like the KV arena's. */
class ReadBuffer {
  public:
    ReadBuffer()
        : data_(static_cast<uint8_t*>(mmap(nullptr, kReadBytes, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
        madvise(data_, kReadBytes, MADV_HUGEPAGE);
        std::memset(data_, 1, kReadBytes);
    }
    ~ReadBuffer() { munmap(data_, kReadBytes); }
    ReadBuffer(const ReadBuffer&) = delete;
    ReadBuffer& operator=(const ReadBuffer&) = delete;
    const uint8_t* data() const { return data_; }

  private:
    uint8_t* data_;
};

__attribute__((target("avx512f"))) float MultiplyAdd512() {
    __m512 sums[kChains];
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
    const __m512 factor = _mm512_set1_ps(0.999f);
    for (int64_t round = 0; round < kFlopRounds; ++round) {
        for (__m512& sum : sums) sum = _mm512_fmadd_ps(sum, factor, factor);
    }
    float total = 0.0f;
    for (const __m512& sum : sums) total += _mm512_cvtss_f32(sum);
    return total;
}

__attribute__((target("avx2,fma"))) float MultiplyAdd256() {
    __m256 sums[kChains];
    for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
    const __m256 factor = _mm256_set1_ps(0.999f);
    for (int64_t round = 0; round < kFlopRounds; ++round) {
        for (__m256& sum : sums) sum = _mm256_fmadd_ps(sum, factor, factor);
    }
    float total = 0.0f;
    for (const __m256& sum : sums) total += _mm256_cvtss_f32(sum);
    return total;
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) int64_t MultiplyAddInt8Avx512() {
    __m512i sums[kChains];
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_epi32(i);
    __m512i factor = _mm512_set1_epi8(3);
    for (int64_t round = 0; round < kFlopRounds; ++round) {
        for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, factor, factor);
        // Without it the compiler would multiply once and add the same product in every round.
        asm volatile("" : "+v"(factor));
    }
    int32_t lanes[16];
    int64_t total = 0;
    for (const __m512i& sum : sums) {
        _mm512_storeu_si512(lanes, sum);
        total += lanes[0];
    }
    return total;
}

/** The least that an exact sum of products of bytes takes: two multiplications and an addition. */
__attribute__((target("avx2"))) int64_t MultiplyAddInt8Avx2() {
    __m256i sums[kChains];
    for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_epi32(i);
    __m256i factor = _mm256_set1_epi8(3);
    const __m256i ones = _mm256_set1_epi16(1);
    for (int64_t round = 0; round < kFlopRounds; ++round) {
        for (__m256i& sum : sums) {
            __m256i pairs = _mm256_maddubs_epi16(factor, factor);
            // Each chain needs a product of its own.
            asm volatile("" : "+v"(pairs));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        }
        asm volatile("" : "+v"(factor));
    }
    int64_t total = 0;
    for (const __m256i& sum : sums) total += _mm256_extract_epi32(sum, 0);
    return total;
}

__attribute__((target("avx512f,avx512bf16"))) float MultiplyAddPairs() {
    __m512 sums[kChains];
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
    __m512i factor = _mm512_set1_epi16(0x3c00);
    for (int64_t round = 0; round < kFlopRounds; ++round) {
        const auto pairs = reinterpret_cast<__m512bh>(factor);
        for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, pairs, pairs);
        asm volatile("" : "+v"(factor));
    }
    float total = 0.0f;
    for (const __m512& sum : sums) total += _mm512_cvtss_f32(sum);
    return total;
}

/** Products of a round of MultiplyTiles. */
constexpr int kTileProducts = 4;

/** All tiles 16 rows of 64 bytes. */
__attribute__((target("amx-tile"))) void ConfigureTiles() {
    alignas(64) uint8_t config[64] = {1};
    for (int tile = 0; tile < 8; ++tile) {
        config[16 + 2 * tile] = 64;
        config[48 + tile] = 16;
    }
    asm volatile("" ::: "memory");
    _tile_loadconfig(config);
}

/** Four tiles of sums, each a chain: of bfloat16 pairs, or of int8. */
template <bool kInt8>
__attribute__((target("amx-tile,amx-bf16,amx-int8"))) int64_t MultiplyTiles() {
    ConfigureTiles();
    for (int64_t round = 0; round < kTileRounds; ++round) {
        if constexpr (kInt8) {
            _tile_dpbusd(0, 4, 6);
            _tile_dpbusd(1, 4, 7);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        } else {
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_release();
    return kTileRounds;
}

/** Operations per second of MultiplyTiles, two for each of 16 x 16 sums and `depth` numbers. */
template <bool kInt8>
double MeasureTiles(ThreadPool& pool, int64_t depth) {
    const double seconds = BestSeconds(3, [&] {
        pool.Run(pool.threads(), [&](int64_t, int) { g_sink += MultiplyTiles<kInt8>(); });
    });
    return 2.0 * 16 * 16 * kTileProducts * static_cast<double>(depth * kTileRounds * pool.threads()) /
           seconds;
}

float MultiplyAddScalar() {
    float sums[kChains];
    for (int i = 0; i < kChains; ++i) sums[i] = static_cast<float>(i);
    for (int64_t round = 0; round < kFlopRounds; ++round) {
        for (float& sum : sums) sum = sum * 0.999f + 0.999f;
    }
    float total = 0.0f;
    for (const float sum : sums) total += sum;
    return total;
}

/** Operations per second of `body` on all threads, which does `operations` in each of kFlopRounds. */
template <typename Body>
double MeasureChains(ThreadPool& pool, int64_t operations, Body body) {
    const double seconds = BestSeconds(3, [&] {
        pool.Run(pool.threads(), [&](int64_t, int) { g_sink += static_cast<int64_t>(body()); });
    });
    return static_cast<double>(operations * kFlopRounds * pool.threads()) / seconds;
}

double MeasureReadBandwidth(ThreadPool& pool) {
    const ReadBuffer buffer;
    const double seconds = BestSeconds(5, [&] {
        // The prefetches of the last piece reach past it, so it is left out.
        pool.Run(kReadBytes / kPieceBytes - 1, [&](int64_t piece, int) {
            g_sink += ReadPiece(buffer.data() + piece * kPieceBytes);
        });
    });
    return static_cast<double>(kReadBytes - kPieceBytes) / seconds;
}

double MeasureFp32Flops(ThreadPool& pool, int64_t width) {
    const int64_t operations = 2 * kChains * width;
    if (width == 16) return MeasureChains(pool, operations, MultiplyAdd512);
    if (width == 8) return MeasureChains(pool, operations, MultiplyAdd256);
    return MeasureChains(pool, operations, MultiplyAddScalar);
}

double MeasureBf16Flops(ThreadPool& pool, const cpu::Kernels& kernels) {
    if (kernels.pairs == nullptr) return 0.0;
    if (&kernels == &cpu::kAmxKernels) return MeasureTiles<false>(pool, 32);
    return MeasureChains(pool, 2 * kChains * 32, MultiplyAddPairs);
}

double MeasureInt8Ops(ThreadPool& pool, const cpu::Kernels& kernels) {
    if (&kernels == &cpu::kAmxKernels) return MeasureTiles<true>(pool, 64);
    if (kernels.width == 16) return MeasureChains(pool, 2 * kChains * 64, MultiplyAddInt8Avx512);
    if (kernels.width == 8) return MeasureChains(pool, 2 * kChains * 32, MultiplyAddInt8Avx2);
    return 0.0;
}

}  // namespace

Roofs MeasureRoofs(ThreadPool& pool, const cpu::Kernels& kernels) {
    return {MeasureReadBandwidth(pool), MeasureFp32Flops(pool, kernels.width),
            MeasureBf16Flops(pool, kernels), MeasureInt8Ops(pool, kernels)};
}

std::string JsonOf(const Roofs& roofs, const cpu::Kernels& kernels, const ThreadPool& pool) {
    char text[256];
    std::snprintf(text, sizeof text,
                  "\"isa\": \"%s\", \"threads\": %d, \"readBytesPerS\": %.4e, "
                  "\"fp32FlopsPerS\": %.4e, \"bf16FlopsPerS\": %.4e, \"int8OpsPerS\": %.4e",
                  kernels.name, static_cast<int>(pool.threads()), roofs.read_bytes_per_s,
                  roofs.fp32_flops_per_s, roofs.bf16_flops_per_s, roofs.int8_ops_per_s);
    return text;
}

}  // namespace ucm::bench
