// Dumps and loads beside the roofs of the same run: memcpy, and plain reads and writes of files.
// Usage: store_bench [folder] [blocks] [repeats] [json]; the default folder is a new one in the temporary
// directory. With json, as `ucm bench store` runs it, it prints one JSON object per line.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <thread>
#include <vector>

#include "store/block_format.h"
#include "store/crc32c.h"
#include "store/dram_store.h"
#include "store/file_store.h"

namespace ucm::bench {
namespace {

/** A block of 128 tokens of Qwen2.5-0.5B in bf16. */
constexpr BlockShape kShape{.bytes_per_block = 24 * 65536, .num_layers = 24, .block_size = 128};
constexpr int64_t kIoBytes = 256 * 1024;
constexpr int kRuns = 9;
/** The threads that a FileStore uses on this machine. */
const int kThreads = std::clamp(4 * static_cast<int>(std::thread::hardware_concurrency()), 4, 32);

/** Page-aligned memory with something in every byte. */
struct Memory {
    explicit Memory(int64_t size)
        : bytes(size),
          data(static_cast<uint8_t*>(std::aligned_alloc(
              4096, static_cast<std::size_t>(block_format::AlignUp(size))))) {
        for (int64_t i = 0; i < size; ++i) data[i] = static_cast<uint8_t>(i * 131 >> 4);
    }
    ~Memory() { std::free(data); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    const int64_t bytes;
    uint8_t* const data;
};

double SecondsOf(const std::function<void()>& body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/** Prints figures as text, or as one JSON object per line. */
class Report {
  public:
    explicit Report(bool json) : json_(json) {}

    void Begin(int64_t blocks) const {
        std::printf(json_ ? "{\"kind\": \"machine\", \"blocks\": %lld, \"blockBytes\": %lld, "
                            "\"layers\": %d, \"ioThreads\": %d, \"crc32c\": \"%s\"}\n"
                          : "%lld blocks of %lld bytes, %d layers; %d I/O threads; CRC-32C: %s\n",
                    static_cast<long long>(blocks), static_cast<long long>(kShape.bytes_per_block),
                    kShape.num_layers, kThreads, crc32c::AvailableKernels().front()->name);
    }

    /** `roof` is how many seconds the same bytes would take at best; 0 for a roof itself. */
    void Rate(const char* part, const char* what, int64_t bytes, double seconds, double roof) const {
        const double rate = static_cast<double>(bytes) / seconds;
        if (json_) {
            std::printf("{\"kind\": \"rate\", \"part\": \"%s\", \"what\": \"%s\", "
                        "\"bytesPerS\": %.4e, \"ofRoof\": ",
                        part, what, rate);
            std::printf(roof > 0 ? "%.4f}\n" : "null}\n", roof / seconds);
            return;
        }
        std::printf("%-7s %-44s %7.2f GB/s", part, what, rate * 1e-9);
        if (roof > 0) std::printf("  %4.0f %% of the roof", 100 * roof / seconds);
        std::printf("\n");
    }

    /** Of a load of `load` seconds: what sums add to the copying of the same bytes. */
    void Verification(const char* part, double load, double plain, double summed) const {
        const double share = std::max(0.0, summed - plain) / load;
        if (json_) {
            std::printf("{\"kind\": \"verification\", \"part\": \"%s\", \"ofLoad\": %.4f}\n", part,
                        share);
        } else {
            std::printf("%-7s %-44s %7.2f %% of the load's time\n", part, "of it verification",
                        100 * share);
        }
    }

  private:
    const bool json_;
};

/** Runs body(index) for all indices on some threads. */
void InParallel(int threads, int64_t count, const std::function<void(int64_t)>& body) {
    std::atomic<int64_t> next{0};
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) {
        workers.emplace_back([&] {
            for (int64_t index = next++; index < count; index = next++) body(index);
        });
    }
    for (std::thread& worker : workers) worker.join();
}

struct Work {
    std::function<void()> body;
    /** Not measured. */
    std::function<void()> before = [] {};
};

/**
 * Seconds of the middle run of each, all of them in turns: what else the machine does then disturbs
 * a figure no more than its roof.
 */
template <std::size_t kCount>
std::array<double, kCount> MedianSeconds(int runs, const std::array<Work, kCount>& works) {
    std::array<std::vector<double>, kCount> seconds;
    for (int run = 0; run < runs; ++run) {
        for (std::size_t i = 0; i < kCount; ++i) {
            works[i].before();
            seconds[i].push_back(SecondsOf(works[i].body));
        }
    }
    std::array<double, kCount> medians;
    for (std::size_t i = 0; i < kCount; ++i) {
        std::sort(seconds[i].begin(), seconds[i].end());
        medians[i] = seconds[i][seconds[i].size() / 2];
    }
    return medians;
}

class Bench {
  public:
    Bench(std::string folder, int64_t blocks, int runs, bool json)
        : report_(json), runs_(runs), folder_(std::move(folder)), blocks_(blocks), bytes_(blocks * kShape.bytes_per_block),
          arena_(bytes_), target_(bytes_) {
        for (int64_t i = 0; i < blocks; ++i) {
            Digest key;
            const uint32_t crc = Crc32c(&i, sizeof(i));
            for (std::size_t byte = 0; byte < key.bytes.size(); ++byte) {
                key.bytes[byte] = static_cast<uint8_t>(crc >> byte % 4 * 8 ^ byte ^ i >> byte % 8);
            }
            keys_.push_back(key);
        }
    }

    void Run() {
        report_.Begin(blocks_);
        RunMemory();
        for (const bool direct : {false, true}) RunFiles(direct);
    }

  private:
    uint8_t* Block(const Memory& memory, int64_t index) const {
        return memory.data + index * kShape.bytes_per_block;
    }

    void RunMemory() {
        const int threads = std::min(4, static_cast<int>(std::thread::hardware_concurrency()));
        const auto block = static_cast<std::size_t>(kShape.bytes_per_block);
        const auto copy = [&](int64_t i) { std::memcpy(Block(target_, i), Block(arena_, i), block); };
        std::atomic<uint32_t> sum{0};
        const auto copy_with_sum = [&](int64_t i) {
            sum += CopyWithCrc32c(Block(target_, i), Block(arena_, i), block);
        };
        std::shared_ptr<DramStore> store;
        const DramStoreOptions options{
            .shape = kShape, .capacity_bytes = bytes_ + kShape.bytes_per_block, .threads = 0};
        if (!DramStore::Open(options, &store).ok()) std::abort();
        // The first dump also makes the kernel find the memory; a store that is full has it.
        const double fresh = SecondsOf([&] { Dump(*store); });
        const auto [one, many, dump, load, plain, summed] = MedianSeconds<6>(runs_, {{
            {[&] { InParallel(1, blocks_, copy); }},
            {[&] { InParallel(threads, blocks_, copy); }},
            {[&] { Dump(*store); }, [&] { Forget(*store); }},
            {[&] { Load(*store); }},
            {[&] { InParallel(threads, blocks_, copy); }},
            {[&] { InParallel(threads, blocks_, copy_with_sum); }},
        }});
        report_.Rate("memory", "memcpy, 1 thread (roof of dumps)", bytes_, one, 0);
        report_.Rate("memory", "memcpy, all copying threads (roof of loads)", bytes_, std::min(many, plain), 0);
        report_.Rate("memory", "dump into fresh memory", bytes_, fresh, one);
        report_.Rate("memory", "dump", bytes_, dump, one);
        report_.Rate("memory", "load, verified", bytes_, load, std::min(many, plain));
        report_.Verification("memory", load, std::min(many, plain), summed);
    }

    void RunFiles(bool direct) {
        const char* part = direct ? "direct" : "cached";
        FileStoreOptions options;
        options.shape = kShape;
        options.backends = {folder_};
        options.file.direct = direct;
        options.write_buffer_bytes = bytes_ + (64 << 20);
        options.stall_timeout = options.total_timeout = std::chrono::minutes(5);
        std::shared_ptr<FileStore> store;
        const Status status = FileStore::Open(options, &store);
        if (!status.ok()) {
            std::fprintf(stderr, "%s\n", status.message().c_str());
            std::exit(1);
        }
        Dump(*store);
        const auto [write_roof, write, read_roof, read, plain, summed] = MedianSeconds<6>(runs_, {{
            {[&] { WriteRaw(direct); }},
            {[&] { Dump(*store); }, [&] { Forget(*store); }},
            {[&] { ReadRaw(direct); }},
            {[&] { Load(*store); }},
            {[&] { CopyStaged(false); }},
            {[&] { CopyStaged(true); }},
        }});
        report_.Rate(part, "plain writes of new files", bytes_, write_roof, 0);
        report_.Rate(part, "dump", bytes_, write, write_roof);
        report_.Rate(part, "plain reads and a copy to the arena", bytes_, read_roof, 0);
        report_.Rate(part, "load, verified", bytes_, read, read_roof);
        report_.Verification(part, read, plain, summed);
        Forget(*store);
        store->Close(std::chrono::seconds(10));
    }

    std::string RawPath(int64_t index) const { return folder_ + "/raw" + std::to_string(index); }

    void WriteRaw(bool direct) {
        InParallel(std::max(1, kThreads / 2), blocks_, [&](int64_t i) {
            const int file = open(RawPath(i).c_str(),
                                  O_CREAT | O_TRUNC | O_WRONLY | (direct ? O_DIRECT : 0), 0644);
            for (int64_t at = 0; at < kShape.bytes_per_block; at += kIoBytes) {
                if (pwrite(file, Block(arena_, i) + at, kIoBytes, at) != kIoBytes) std::abort();
            }
            close(file);
        });
    }

    /** As the store does, without its checks: into a small buffer, and from there to the arena. */
    void ReadRaw(bool direct) {
        InParallel(kThreads, blocks_, [&](int64_t i) {
            thread_local Memory staging(kIoBytes);
            const int file = open(RawPath(i).c_str(), O_RDONLY | (direct ? O_DIRECT : 0));
            for (int64_t at = 0; at < kShape.bytes_per_block; at += kIoBytes) {
                if (pread(file, staging.data, kIoBytes, at) != kIoBytes) std::abort();
                std::memcpy(Block(target_, i) + at, staging.data, kIoBytes);
            }
            close(file);
        });
    }

    /** All copies from a buffer that is in the cache to the arena, on as many threads as cores. */
    void CopyStaged(bool with_sum) {
        const int threads = static_cast<int>(std::thread::hardware_concurrency());
        std::atomic<uint32_t> sum{0};
        InParallel(threads, blocks_, [&](int64_t i) {
            thread_local Memory staging(kIoBytes);
            for (int64_t at = 0; at < kShape.bytes_per_block; at += kIoBytes) {
                uint8_t* const target = Block(target_, i) + at;
                if (with_sum) {
                    sum += CopyWithCrc32c(target, staging.data, kIoBytes);
                } else {
                    std::memcpy(target, staging.data, kIoBytes);
                }
            }
        });
    }

    void Dump(KvStore& store) {
        std::vector<DumpSource> sources;
        for (int64_t i = 0; i < blocks_; ++i) {
            sources.push_back({keys_[static_cast<std::size_t>(i)], Block(arena_, i)});
        }
        std::promise<std::vector<BlockStatus>> done;
        store.Dump(sources, [&](std::vector<BlockStatus> all) { done.set_value(std::move(all)); });
        Check(done.get_future().get());
    }

    void Load(KvStore& store) {
        std::vector<LoadTarget> targets;
        for (int64_t i = 0; i < blocks_; ++i) {
            targets.push_back({keys_[static_cast<std::size_t>(i)], Block(target_, i)});
        }
        std::promise<std::vector<BlockStatus>> done;
        store.Load(std::make_shared<LoadBatch>(
            std::move(targets), kShape.num_layers, LoadBatch::Progress(),
            [&](std::vector<BlockStatus> all) { done.set_value(std::move(all)); }));
        Check(done.get_future().get());
    }

    void Forget(KvStore& store) {
        std::promise<void> done;
        store.Forget(keys_, [&](const std::vector<BlockStatus>&) { done.set_value(); });
        done.get_future().get();
    }

    static void Check(const std::vector<BlockStatus>& statuses) {
        for (const BlockStatus status : statuses) {
            if (status == BlockStatus::kOk) continue;
            std::fprintf(stderr, "a block ended with status %d\n", static_cast<int>(status));
            std::exit(1);
        }
    }

    const Report report_;
    const int runs_;
    const std::string folder_;
    const int64_t blocks_;
    const int64_t bytes_;
    const Memory arena_;
    const Memory target_;
    std::vector<BlockKey> keys_;
};

}  // namespace
}  // namespace ucm::bench

int main(int argc, char** argv) {
    const bool given = argc > 1;
    std::string folder = std::filesystem::temp_directory_path() / "ucm-bench-XXXXXX";
    if (given) {
        folder = argv[1];
    } else if (mkdtemp(folder.data()) == nullptr) {
        return 1;
    }
    const bool json = argc > 4 && std::string(argv[4]) == "json";
    ucm::bench::Bench(folder, argc > 2 ? std::atoll(argv[2]) : 200,
                      argc > 3 ? std::atoi(argv[3]) : ucm::bench::kRuns, json)
        .Run();
    if (given && !json) {
        std::printf("left behind: files in %s\n", folder.c_str());
    } else if (!given) {
        std::filesystem::remove_all(folder);
    }
    return 0;
}
