#include <cstring>
#include <numeric>
#include <string>

#include "store/crc32c.h"
#include "test/check.h"
#include "test/random.h"
#include "test/store_fixture.h"

namespace ucm::test {
namespace {

/** One bit at a time: the definition. */
uint32_t SlowCrc(const std::vector<uint8_t>& data) {
    uint32_t state = ~0u;
    for (const uint8_t byte : data) {
        state ^= byte;
        for (int bit = 0; bit < 8; ++bit) {
            state = (state >> 1) ^ ((state & 1) != 0 ? crc32c::kPolynomial : 0);
        }
    }
    return ~state;
}

/** The examples of RFC 3720, B.4, and the check value of the catalogue of parametrised CRCs. */
UCM_TEST(crc32c_published_vectors) {
    std::vector<uint8_t> rising(32);
    std::iota(rising.begin(), rising.end(), uint8_t{0});
    const std::vector<uint8_t> falling(rising.rbegin(), rising.rend());
    const std::vector<uint8_t> read_command = {
        0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
        0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
    const std::string digits = "123456789";
    const std::pair<std::vector<uint8_t>, uint32_t> vectors[] = {
        {std::vector<uint8_t>(32, 0x00), 0x8a9136aa},
        {std::vector<uint8_t>(32, 0xff), 0x62a8ab43},
        {rising, 0x46dd794e},
        {falling, 0x113fdb5c},
        {read_command, 0xd9963a56},
        {{digits.begin(), digits.end()}, 0xe3069283},
        {{}, 0}};
    for (const auto& [data, crc] : vectors) {
        UCM_CHECK(SlowCrc(data) == crc);
        UCM_CHECK(Crc32c(data.data(), data.size()) == crc);
        for (const crc32c::Kernels* kernels : crc32c::AvailableKernels()) {
            UCM_CHECK_MESSAGE(~kernels->update(~0u, data.data(), data.size()) == crc,
                              kernels->name);
        }
    }
}

UCM_TEST(crc32c_implementations_agree_at_every_length_and_alignment) {
    Random random(1);
    std::vector<uint8_t> data(300'000);
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random.Integer(0, 255));
    std::vector<uint8_t> target(data.size() + 128);
    for (int64_t trial = 0; trial < Trials(3000); ++trial) {
        const int64_t longest = trial % 10 == 0 ? 250'000 : 5000;
        const auto size = static_cast<std::size_t>(random.Integer(0, longest));
        const auto from = static_cast<std::size_t>(random.Integer(0, 200));
        // Multiples of 64 take the path that bypasses the caches.
        const auto to = static_cast<std::size_t>(random.Integer(0, 1) * random.Integer(0, 63));
        uint8_t* const aligned = target.data() + 64 - reinterpret_cast<uintptr_t>(target.data()) % 64;
        const auto state = static_cast<uint32_t>(random.Integer(0, 0xffffffff));
        const uint32_t expected = crc32c::kTableKernels.update(state, data.data() + from, size);
        for (const crc32c::Kernels* kernels : crc32c::AvailableKernels()) {
            UCM_CHECK_MESSAGE(kernels->update(state, data.data() + from, size) == expected,
                              kernels->name);
            std::memset(aligned + to, 0, size);
            UCM_CHECK_MESSAGE(
                kernels->copy(state, aligned + to, data.data() + from, size) == expected,
                kernels->name);
            UCM_CHECK(std::memcmp(aligned + to, data.data() + from, size) == 0);
        }
    }
}

UCM_TEST(crc32c_continues) {
    std::vector<uint8_t> data(10'000, 7);
    const uint32_t whole = Crc32c(data.data(), data.size());
    UCM_CHECK(whole == SlowCrc(data));
    for (std::size_t cut = 0; cut <= data.size(); cut += 997) {
        const uint32_t first = Crc32c(data.data(), cut);
        UCM_CHECK(Crc32c(data.data() + cut, data.size() - cut, first) == whole);
    }
}

}  // namespace
}  // namespace ucm::test
