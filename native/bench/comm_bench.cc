// All-reduce between processes, each on a core of its own: latency by size, in microseconds.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "comm/shm_communicator.h"
#include "common/process.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kSlotBytes = 256 * 1024;

void Check(const ucm::Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::_Exit(1);
}

void Measure(ucm::ShmCommunicator& communicator, std::size_t bytes) {
    std::vector<float> data(bytes / sizeof(float), 1.0f);
    const int rounds = bytes > 65536 ? 500 : 20'000;
    std::vector<double> micros;
    for (int round = 0; round < rounds; ++round) {
        const Clock::time_point start = Clock::now();
        Check(communicator.AllReduceSum(data));
        const std::chrono::duration<double, std::micro> elapsed = Clock::now() - start;
        micros.push_back(elapsed.count());
        if (round % 64 == 0) std::fill(data.begin(), data.end(), 1.0f);
    }
    if (communicator.rank() != 0) return;
    std::sort(micros.begin(), micros.end());
    const auto at = [&](double share) {
        return micros[static_cast<std::size_t>(share * static_cast<double>(micros.size() - 1))];
    };
    std::printf("%9zu bytes   median %8.2f us   p90 %8.2f us   p99 %8.2f us\n", bytes, at(0.5),
                at(0.9), at(0.99));
    std::fflush(stdout);
}

void RunRank(const std::shared_ptr<ucm::SharedRegion>& region, int rank) {
    const auto cores = static_cast<int>(std::thread::hardware_concurrency());
    const int32_t core = rank % cores;
    Check(ucm::PinToCores({&core, 1}));
    ucm::ShmOptions options;
    options.rank = rank;
    if (region->world_size() > cores) options.spin = std::chrono::microseconds(0);
    ucm::ShmCommunicator communicator(region, options);
    for (const std::size_t bytes : {64u, 4096u, 65536u, 1835008u}) Measure(communicator, bytes);
}

}  // namespace

int main(int argc, char** argv) {
    const int world_size = argc > 1 ? std::atoi(argv[1]) : 2;
    std::unique_ptr<ucm::SharedRegion> mapped;
    const int descriptor = memfd_create("ucm-comm-bench", MFD_CLOEXEC);
    Check(ucm::SharedRegion::Map(descriptor, world_size, kSlotBytes, &mapped));
    const std::shared_ptr<ucm::SharedRegion> region = std::move(mapped);
    std::printf("all-reduce of %d processes\n", world_size);
    std::fflush(stdout);
    for (int rank = 1; rank < world_size; ++rank) {
        if (fork() == 0) {
            RunRank(region, rank);
            std::_Exit(0);
        }
    }
    RunRank(region, 0);
    while (wait(nullptr) > 0) {
    }
    return 0;
}
