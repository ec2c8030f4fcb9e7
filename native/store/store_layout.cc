#include "store/store_layout.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdio>
#include <fstream>
#include <random>

#include "store/crc32c.h"

namespace ucm {
namespace {

constexpr std::size_t kKeyDigits = 64;

std::string Hex32(uint32_t value) {
    char text[9];
    std::snprintf(text, sizeof(text), "%08x", value);
    return text;
}

/** Containers with a host's name but process ids of their own must not count as the host. */
std::string HostToken() {
    std::string identity;
    char text[PATH_MAX] = {};
    if (gethostname(text, sizeof(text) - 1) == 0) identity += text;
    std::string boot;
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
    identity += boot;
    const ssize_t length = readlink("/proc/self/ns/pid", text, sizeof(text) - 1);
    if (length > 0) identity.append(text, static_cast<std::size_t>(length));
    return Hex32(Crc32c(identity.data(), identity.size()));
}

const std::string& OwnHost() {
    // Never destroyed: I/O threads may still be at work when the process ends.
    static const auto& token = *new std::string(HostToken());
    return token;
}

bool EndsWith(const std::string& text, const std::string& suffix) {
    return text.size() >= suffix.size() &&
           text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

}  // namespace

ServerId ServerId::Make() {
    std::random_device device;
    return {.host = OwnHost(), .pid = getpid(), .nonce = Hex32(device())};
}

bool ServerId::Parse(const std::string& name, ServerId* id) {
    const std::size_t first = name.find('-');
    const std::size_t second = first == std::string::npos ? first : name.find('-', first + 1);
    if (second == std::string::npos) return false;
    id->host = name.substr(0, first);
    id->nonce = name.substr(second + 1);
    const char* end = name.data() + second;
    const auto parsed = std::from_chars(name.data() + first + 1, end, id->pid);
    return parsed.ec == std::errc() && parsed.ptr == end && id->pid > 0;
}

bool ServerId::IsKnownDead() const {
    return host == OwnHost() && kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH;
}

bool StoreLayout::ParseBlockName(const std::string& name, BlockKey* key) {
    return EndsWith(name, kBlockSuffix) && name.size() == kKeyDigits + 3 &&
           Digest::Parse(name.substr(0, kKeyDigits), key);
}

bool StoreLayout::ParseTempName(const std::string& name, ServerId* writer) {
    if (!EndsWith(name, kTempSuffix) || name.size() <= kKeyDigits || name[kKeyDigits] != '.') {
        return false;
    }
    const std::size_t end = name.find('.', kKeyDigits + 1);
    return ServerId::Parse(name.substr(kKeyDigits + 1, end - kKeyDigits - 1), writer);
}

}  // namespace ucm
