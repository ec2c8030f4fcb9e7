#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "comm/shm_communicator.h"
#include "test/check.h"
#include "test/random.h"

namespace ucm::test {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kSmallSlot = 256;

std::shared_ptr<SharedRegion> MapRegion(int world_size, std::size_t slot_bytes = kSmallSlot) {
    const int descriptor = memfd_create("ucm-comm-test", MFD_CLOEXEC);
    UCM_CHECK(descriptor >= 0);
    std::unique_ptr<SharedRegion> region;
    const Status status = SharedRegion::Map(descriptor, world_size, slot_bytes, &region);
    UCM_CHECK_MESSAGE(status.ok(), status.message());
    close(descriptor);
    return region;
}

ShmOptions OptionsOf(int rank, milliseconds timeout = milliseconds(20'000)) {
    ShmOptions options;
    options.rank = rank;
    options.timeout = timeout;
    options.spin = std::chrono::microseconds(rank % 2 == 0 ? 20 : 0);
    return options;
}

/** Every rank in a thread of its own, over one mapping: the sanitizers see all accesses. */
void RunThreads(int world_size, std::size_t slot_bytes,
                const std::function<void(ShmCommunicator&)>& body) {
    const auto region = MapRegion(world_size, slot_bytes);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < world_size; ++rank) {
        threads.emplace_back([&, rank] {
            ShmCommunicator communicator(region, OptionsOf(rank));
            body(communicator);
        });
    }
    for (std::thread& thread : threads) thread.join();
}

/** Starts `body` in a process; its result is the exit code. */
pid_t Fork(const std::function<int()>& body) {
    const pid_t child = fork();
    UCM_CHECK(child >= 0);
    if (child == 0) _exit(body());
    return child;
}

int ExitCodeOf(pid_t child) {
    int status = 0;
    UCM_CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

float Value(int rank, std::size_t i) {
    // Sums of these depend on the order in which they are added.
    return static_cast<float>(rank + 1) * 1.1f + static_cast<float>(i % 97) * 1e-3f;
}

void CheckAllReduce(ShmCommunicator& communicator, std::size_t length) {
    std::vector<float> data(length);
    for (std::size_t i = 0; i < length; ++i) data[i] = Value(communicator.rank(), i);
    UCM_CHECK(communicator.AllReduceSum(data).ok());
    for (std::size_t i = 0; i < length; ++i) {
        float expected = Value(0, i);
        for (int rank = 1; rank < communicator.world_size(); ++rank) expected += Value(rank, i);
        UCM_CHECK(std::memcmp(&data[i], &expected, sizeof(float)) == 0);
    }
}

void CheckGather(ShmCommunicator& communicator, int64_t rows, int64_t width) {
    const int rank = communicator.rank();
    const ColumnRange columns = ColumnShare(width, rank, communicator.world_size());
    std::vector<float> part;
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t column = columns.begin; column < columns.end; ++column) {
            part.push_back(static_cast<float>(row * width + column));
        }
    }
    const bool is_wanted = rank != 1;
    std::vector<float> out(static_cast<std::size_t>(rows * width), -1.0f);
    UCM_CHECK(communicator.GatherColumns(part, rows, width, is_wanted ? out.data() : nullptr).ok());
    for (std::size_t i = 0; i < out.size(); ++i) {
        UCM_CHECK(out[i] == (is_wanted ? static_cast<float>(i) : -1.0f));
    }
}

void CheckBroadcast(ShmCommunicator& communicator, std::size_t length) {
    std::vector<uint8_t> bytes(length);
    for (std::size_t i = 0; i < length && communicator.rank() == 0; ++i) {
        bytes[i] = static_cast<uint8_t>(i * 7 + 1);
    }
    UCM_CHECK(communicator.Broadcast(bytes).ok());
    for (std::size_t i = 0; i < length; ++i) UCM_CHECK(bytes[i] == static_cast<uint8_t>(i * 7 + 1));
}

}  // namespace

UCM_TEST(CommunicatorOperations) {
    for (const int world_size : {1, 2, 3, 4}) {
        RunThreads(world_size, kSmallSlot, [](ShmCommunicator& communicator) {
            for (const std::size_t length : {1u, 63u, 64u, 65u, 1000u}) {
                CheckAllReduce(communicator, length);
                CheckBroadcast(communicator, length);
            }
            // Widths that do not divide, parts that are larger than a slot, ranks without columns.
            for (const int64_t width : {1, 2, 5, 64, 333}) CheckGather(communicator, 3, width);
        });
    }
}

UCM_TEST(CommunicatorInAnyOrderOfArrival) {
    RunThreads(3, 4096, [](ShmCommunicator& communicator) {
        Random random(static_cast<uint32_t>(communicator.rank()) + 1);
        for (int round = 0; round < 200; ++round) {
            if (random.Integer(0, 9) == 0) {
                std::this_thread::sleep_for(std::chrono::microseconds(random.Integer(0, 800)));
            }
            CheckAllReduce(communicator, static_cast<std::size_t>(round));
        }
    });
}

UCM_TEST(CommunicatorBetweenProcesses) {
    const auto region = MapRegion(4);
    std::vector<pid_t> children;
    for (int rank = 0; rank < 4; ++rank) {
        children.push_back(Fork([&] {
            ShmCommunicator communicator(region, OptionsOf(rank));
            for (std::size_t round = 0; round < 300; ++round) CheckAllReduce(communicator, round);
            return 0;
        }));
    }
    for (const pid_t child : children) UCM_CHECK(ExitCodeOf(child) == 0);
}

UCM_TEST(CommunicatorNoticesAPeerThatEnded) {
    const auto region = MapRegion(2);
    // Killed, and not collected: a zombie counts as ended.
    const pid_t peer = Fork([&] {
        ShmCommunicator communicator(region, OptionsOf(1));
        CheckAllReduce(communicator, 10);
        raise(SIGKILL);
        return 0;
    });
    ShmCommunicator communicator(region, OptionsOf(0));
    CheckAllReduce(communicator, 10);
    std::vector<float> data(10);
    const auto start = std::chrono::steady_clock::now();
    const Status status = communicator.AllReduceSum(data);
    UCM_CHECK(!status.ok());
    UCM_CHECK_MESSAGE(status.message() == "the process of rank 1 has ended", status.message());
    UCM_CHECK(std::chrono::steady_clock::now() - start < milliseconds(5'000));
    UCM_CHECK(ExitCodeOf(peer) == 128 + SIGKILL);
}

UCM_TEST(CommunicatorGivesUpOnAStoppedPeer) {
    const auto region = MapRegion(2);
    const pid_t peer = Fork([&] {
        ShmCommunicator communicator(region, OptionsOf(1));
        raise(SIGSTOP);
        return 0;
    });
    ShmCommunicator communicator(region, OptionsOf(0, milliseconds(150)));
    std::vector<float> data(10);
    const Status status = communicator.AllReduceSum(data);
    UCM_CHECK_MESSAGE(status.message() == "rank 1 did not answer within 150 ms", status.message());
    kill(peer, SIGKILL);
    UCM_CHECK(ExitCodeOf(peer) == 128 + SIGKILL);
}

UCM_TEST(CommunicatorRefusesRanksOutOfStep) {
    const auto region = MapRegion(2);
    std::thread other([&] {
        ShmCommunicator communicator(region, OptionsOf(1));
        std::vector<float> data(11);
        UCM_CHECK(!communicator.AllReduceSum(data).ok());
    });
    ShmCommunicator communicator(region, OptionsOf(0));
    std::vector<float> data(10);
    const Status status = communicator.AllReduceSum(data);
    other.join();
    UCM_CHECK_MESSAGE(status.message().find("out of step") != std::string::npos, status.message());
}

UCM_TEST(CommunicatorTicketsWrapAround) {
    const auto region = MapRegion(2);
    for (int rank = 0; rank < 2; ++rank) region->state(rank).arrived.store(0xfffffff0u);
    const auto run = [&](int rank) {
        ShmCommunicator communicator(region, OptionsOf(rank));
        for (std::size_t round = 0; round < 64; ++round) CheckAllReduce(communicator, round);
    };
    std::thread other([&] { run(1); });
    run(0);
    other.join();
    UCM_CHECK(region->state(0).arrived.load() < 100);
}

UCM_TEST(CommunicatorShowsSignsOfLife) {
    const auto region = MapRegion(1);
    ShmCommunicator communicator(region, OptionsOf(0));
    communicator.NoteProgress();
    communicator.NoteIdle();
    communicator.NoteIdle();
    UCM_CHECK(region->heartbeat(0).progress.load() == 1);
    UCM_CHECK(region->heartbeat(0).idle.load() == 2);
}

UCM_TEST(SharedRegionNeedsMemory) {
    std::unique_ptr<SharedRegion> region;
    UCM_CHECK(!SharedRegion::Map(-1, 2, kSmallSlot, &region).ok());
    UCM_CHECK(!SharedRegion::Map(0, kMaxRanks + 1, kSmallSlot, &region).ok());
}

}  // namespace ucm::test
