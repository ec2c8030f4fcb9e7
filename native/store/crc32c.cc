#include "store/crc32c.h"

#include <array>
#include <cstring>

namespace ucm {
namespace crc32c {
namespace {

using Table = std::array<std::array<uint32_t, 256>, 8>;

/** table[k][b]: the state after byte b and k zero bytes. */
constexpr Table MakeTable() {
    Table table{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t state = byte;
        for (int bit = 0; bit < 8; ++bit) {
            state = (state >> 1) ^ ((state & 1) != 0 ? kPolynomial : 0);
        }
        table[0][byte] = state;
    }
    for (std::size_t k = 1; k < table.size(); ++k) {
        for (std::size_t byte = 0; byte < 256; ++byte) {
            const uint32_t state = table[k - 1][byte];
            table[k][byte] = (state >> 8) ^ table[0][state & 0xff];
        }
    }
    return table;
}

constexpr Table kTable = MakeTable();

uint32_t UpdateByTable(uint32_t state, const uint8_t* data, std::size_t size) {
    for (; size >= 8; size -= 8, data += 8) {
        uint64_t word;
        std::memcpy(&word, data, sizeof(word));
        word ^= state;
        state = 0;
        for (std::size_t k = 0; k < 8; ++k) state ^= kTable[7 - k][word >> (8 * k) & 0xff];
    }
    for (; size > 0; --size, ++data) state = (state >> 8) ^ kTable[0][(state ^ *data) & 0xff];
    return state;
}

uint32_t CopyByTable(uint32_t state, uint8_t* target, const uint8_t* data, std::size_t size) {
    std::memcpy(target, data, size);
    return UpdateByTable(state, target, size);
}

/** CPUID traps in virtual machines, so this is asked once. */
std::vector<const Kernels*> DetectKernels() {
    std::vector<const Kernels*> kernels;
    __builtin_cpu_init();
    const bool sse42 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
    const bool avx512 = sse42 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("vpclmulqdq");
    if (avx512) kernels.push_back(&kAvx512Kernels);
    if (sse42) kernels.push_back(&kSse42Kernels);
    kernels.push_back(&kTableKernels);
    return kernels;
}

const Kernels& BestKernels() {
    static const Kernels& best = *AvailableKernels().front();
    return best;
}

}  // namespace

const Kernels kTableKernels = {"table", UpdateByTable, CopyByTable};

const std::vector<const Kernels*>& AvailableKernels() {
    static const std::vector<const Kernels*> kernels = DetectKernels();
    return kernels;
}

}  // namespace crc32c

uint32_t Crc32c(const void* data, std::size_t size, uint32_t crc) {
    return ~crc32c::BestKernels().update(~crc, static_cast<const uint8_t*>(data), size);
}

uint32_t CopyWithCrc32c(void* target, const void* data, std::size_t size, uint32_t crc) {
    return ~crc32c::BestKernels().copy(~crc, static_cast<uint8_t*>(target),
                                       static_cast<const uint8_t*>(data), size);
}

}  // namespace ucm
