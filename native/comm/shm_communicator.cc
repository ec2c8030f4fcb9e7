#include "comm/shm_communicator.h"

#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "common/float_mode.h"

namespace ucm {
namespace {

using Clock = std::chrono::steady_clock;

/** Longest sleep without a look whether the awaited process still runs. */
constexpr std::chrono::milliseconds kSlice{50};

/** Between two looks at the clock while spinning. */
constexpr int kPausesPerLook = 32;

/** Sleeps until *word is woken, differs from `seen`, or the slice is over. */
void FutexWait(const std::atomic<uint32_t>* word, uint32_t seen) {
    const timespec slice = {0, std::chrono::nanoseconds(kSlice).count()};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &slice, nullptr, 0);
}

void FutexWakeAll(std::atomic<uint32_t>* word) {
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

/** Tickets wrap around. */
bool HasReached(uint32_t arrived, uint32_t ticket) {
    return static_cast<int32_t>(arrived - ticket) >= 0;
}

/** Copies elements [first, first + count) of a rank's part to their columns of the whole. */
void ScatterColumns(const float* piece, int64_t first, int64_t count, ColumnRange columns,
                    int64_t width, float* out) {
    for (int64_t done = 0; done < count;) {
        const int64_t row = (first + done) / columns.width();
        const int64_t column = (first + done) % columns.width();
        const int64_t run = std::min(count - done, columns.width() - column);
        std::copy_n(piece + done, run, out + row * width + columns.begin + column);
        done += run;
    }
}

}  // namespace

ShmCommunicator::ShmCommunicator(std::shared_ptr<SharedRegion> region, const ShmOptions& options)
    : region_(std::move(region)),
      options_(options),
      ticket_(region_->state(options.rank).arrived.load(std::memory_order_acquire)) {
    processes_.fill(-1);
    region_->state(rank()).pid.store(getpid(), std::memory_order_release);
}

ShmCommunicator::~ShmCommunicator() {
    for (const int process : processes_) {
        if (process >= 0) close(process);
    }
}

Status ShmCommunicator::AllReduceSum(std::span<float> data) {
    if (world_size() == 1) return Status::Ok();
    const ScopedFloatMode mode;
    const std::size_t most = region_->slot_bytes() / sizeof(float);
    for (std::size_t begin = 0; begin < data.size(); begin += most) {
        const std::span<float> piece = data.subspan(begin, std::min(most, data.size() - begin));
        std::memcpy(Next(), piece.data(), piece.size_bytes());
        UCM_RETURN_IF_ERROR(Meet(piece.size_bytes()));
        std::memcpy(piece.data(), Met(0), piece.size_bytes());
        for (int other = 1; other < world_size(); ++other) {
            const auto* values = reinterpret_cast<const float*>(Met(other));
            for (std::size_t i = 0; i < piece.size(); ++i) piece[i] += values[i];
        }
    }
    return Status::Ok();
}

Status ShmCommunicator::GatherColumns(std::span<const float> part, int64_t rows, int64_t width,
                                      float* out) {
    const auto most = static_cast<int64_t>(region_->slot_bytes() / sizeof(float));
    const auto length = [&](int of) { return rows * ColumnShare(width, of, world_size()).width(); };
    if (static_cast<int64_t>(part.size()) != length(rank())) {
        return Status::InvalidArgument("a part of " + std::to_string(part.size()) +
                                       " elements, expected " + std::to_string(length(rank())));
    }
    if (world_size() == 1) {
        if (out != nullptr) std::copy(part.begin(), part.end(), out);
        return Status::Ok();
    }
    // Rank 0 has the widest share, so no rank has more pieces.
    for (int64_t first = 0; first < length(0); first += most) {
        const auto count = [&](int of) { return std::clamp<int64_t>(length(of) - first, 0, most); };
        if (count(rank()) > 0) {
            std::memcpy(Next(), part.data() + first,
                        static_cast<std::size_t>(count(rank())) * sizeof(float));
        }
        UCM_RETURN_IF_ERROR(Meet(static_cast<std::size_t>(count(0)) * sizeof(float)));
        if (out == nullptr) continue;
        for (int of = 0; of < world_size(); ++of) {
            ScatterColumns(reinterpret_cast<const float*>(Met(of)), first, count(of),
                           ColumnShare(width, of, world_size()), width, out);
        }
    }
    return Status::Ok();
}

Status ShmCommunicator::Broadcast(std::span<uint8_t> bytes) {
    if (world_size() == 1) return Status::Ok();
    const std::size_t most = region_->slot_bytes();
    for (std::size_t begin = 0; begin < bytes.size(); begin += most) {
        const std::span<uint8_t> piece = bytes.subspan(begin, std::min(most, bytes.size() - begin));
        if (rank() == 0) std::memcpy(Next(), piece.data(), piece.size());
        UCM_RETURN_IF_ERROR(Meet(piece.size()));
        if (rank() != 0) std::memcpy(piece.data(), Met(0), piece.size());
    }
    return Status::Ok();
}

Status ShmCommunicator::Meet(std::size_t bytes) {
    RankState& own = region_->state(rank());
    own.bytes[ticket_ % 2].store(bytes, std::memory_order_relaxed);
    const unsigned parity = ticket_ % 2;
    ++ticket_;
    own.arrived.store(ticket_, std::memory_order_seq_cst);
    if (own.sleepers.load(std::memory_order_seq_cst) != 0) FutexWakeAll(&own.arrived);
    for (int peer = 0; peer < world_size(); ++peer) {
        if (peer == rank()) continue;
        UCM_RETURN_IF_ERROR(Await(peer, ticket_));
        const uint64_t theirs = region_->state(peer).bytes[parity].load(std::memory_order_relaxed);
        if (theirs == bytes) continue;
        return {StatusCode::kIo, "rank " + std::to_string(peer) + " exchanges " +
                                     std::to_string(theirs) + " bytes and rank " +
                                     std::to_string(rank()) + " " + std::to_string(bytes) +
                                     ": they are out of step"};
    }
    NoteProgress();
    return Status::Ok();
}

Status ShmCommunicator::Await(int peer, uint32_t ticket) {
    RankState& state = region_->state(peer);
    if (SpinFor(state, ticket)) return Status::Ok();
    const Clock::time_point deadline = Clock::now() + options_.timeout;
    for (;;) {
        const uint32_t seen = state.arrived.load(std::memory_order_seq_cst);
        if (HasReached(seen, ticket)) return Status::Ok();
        // Announced before the last look, so that the peer either is seen or sees the sleeper.
        state.sleepers.fetch_add(1, std::memory_order_seq_cst);
        if (state.arrived.load(std::memory_order_seq_cst) == seen) FutexWait(&state.arrived, seen);
        state.sleepers.fetch_sub(1, std::memory_order_seq_cst);
        if (HasReached(state.arrived.load(std::memory_order_seq_cst), ticket)) return Status::Ok();
        if (HasEnded(peer)) {
            return {StatusCode::kIo, "the process of rank " + std::to_string(peer) + " has ended"};
        }
        if (Clock::now() > deadline) {
            return {StatusCode::kIo, "rank " + std::to_string(peer) + " did not answer within " +
                                         std::to_string(options_.timeout.count()) + " ms"};
        }
    }
}

bool ShmCommunicator::SpinFor(const RankState& peer, uint32_t ticket) const {
    const auto reached = [&] {
        return HasReached(peer.arrived.load(std::memory_order_acquire), ticket);
    };
    if (reached()) return true;
    const Clock::time_point end = Clock::now() + options_.spin;
    while (Clock::now() < end) {
        for (int i = 0; i < kPausesPerLook; ++i) {
            _mm_pause();
            if (reached()) return true;
        }
    }
    return false;
}

bool ShmCommunicator::HasEnded(int peer) {
    int& process = processes_[static_cast<std::size_t>(peer)];
    const int32_t pid = region_->state(peer).pid.load(std::memory_order_acquire);
    if (pid == 0) return false;
    if (process < 0) process = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    // A kernel without pidfds, or a process that is gone and collected.
    if (process < 0) return kill(pid, 0) != 0 && errno == ESRCH;
    pollfd readable = {process, POLLIN, 0};
    return poll(&readable, 1, 0) == 1;
}

}  // namespace ucm
