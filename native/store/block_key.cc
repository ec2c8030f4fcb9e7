#include "store/block_key.h"

namespace ucm {
namespace {

constexpr char kDigits[] = "0123456789abcdef";

int ValueOf(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    return -1;
}

}  // namespace

std::string Digest::Hex() const {
    std::string hex;
    hex.reserve(2 * bytes.size());
    for (const uint8_t byte : bytes) {
        hex += kDigits[byte >> 4];
        hex += kDigits[byte & 15];
    }
    return hex;
}

bool Digest::Parse(const std::string& hex, Digest* digest) {
    if (hex.size() != 2 * digest->bytes.size()) return false;
    for (std::size_t i = 0; i < digest->bytes.size(); ++i) {
        const int high = ValueOf(hex[2 * i]);
        const int low = ValueOf(hex[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        digest->bytes[i] = static_cast<uint8_t>(high << 4 | low);
    }
    return true;
}

}  // namespace ucm
