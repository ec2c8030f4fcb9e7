#include "store/server_folder.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "store/io_pool.h"

namespace ucm {
namespace {

/** A server whose heartbeat is older is taken for dead; heartbeats are a few seconds apart. */
constexpr int64_t kDeadAfter = int64_t{120} * 1'000'000'000;
constexpr std::size_t kSmallFile = 4096;

/** 0 when nothing is there. */
int64_t HeartbeatOf(FileSystem& files, const StoreLayout& layout, const std::string& server) {
    const std::string folder = layout.servers_folder() + "/" + server;
    FileInfo info;
    const bool found = files.PathStatus(folder + "/reserved", &info) == 0 ||
                       files.PathStatus(folder, &info) == 0;
    return found ? info.write_time : 0;
}

bool IsDead(const std::string& server, int64_t heartbeat_at, int64_t now) {
    ServerId id;
    if (ServerId::Parse(server, &id) && id.IsKnownDead()) return true;
    return heartbeat_at > 0 && now - heartbeat_at > kDeadAfter;
}

}  // namespace

int64_t SystemClock() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

std::string ReadSmallFile(FileSystem& files, const std::string& path) {
    IoPool::Beat();
    const int file = Uninterrupted([&] { return files.Open(path, O_RDONLY, 0); });
    if (file < 0) return {};
    std::string text(kSmallFile, '\0');
    const ssize_t size =
        Uninterrupted([&] { return files.Read(file, text.data(), text.size(), 0); });
    files.Close(file);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    return text;
}

int WriteSmallFile(FileSystem& files, const std::string& path, const std::string& text,
                   int flags) {
    IoPool::Beat();
    const int file = Uninterrupted([&] { return files.Open(path, flags, 0666); });
    if (file < 0) return file;
    const ssize_t size =
        Uninterrupted([&] { return files.Write(file, text.data(), text.size(), 0); });
    const int closed = files.Close(file);
    if (size != static_cast<ssize_t>(text.size())) return size < 0 ? static_cast<int>(size) : -EIO;
    return closed;
}

bool IsDeadServer(FileSystem& files, const StoreLayout& layout, const std::string& server,
                  int64_t now) {
    return IsDead(server, HeartbeatOf(files, layout, server), now);
}

int64_t ClaimOf(FileSystem& files, const StoreLayout& layout, const std::string& server) {
    const std::string path = layout.servers_folder() + "/" + server + "/reserved";
    std::string text = ReadSmallFile(files, path);
    // A read may see half of a write, but hardly twice the same half.
    for (std::string again = ReadSmallFile(files, path); again != text;
         again = ReadSmallFile(files, path)) {
        text = std::move(again);
    }
    int64_t claim = 0;
    std::from_chars(text.data(), text.data() + text.size(), claim);
    return std::max<int64_t>(claim, 0);
}

std::vector<ServerReport> ListServers(FileSystem& files, const StoreLayout& layout, int64_t now) {
    std::vector<std::string> names;
    files.List(layout.servers_folder(), &names);
    std::vector<ServerReport> servers;
    for (const std::string& name : names) {
        ServerReport server;
        server.name = name;
        server.heartbeat_at = HeartbeatOf(files, layout, name);
        server.dead = IsDead(name, server.heartbeat_at, now);
        server.claim_bytes = ClaimOf(files, layout, name);
        const std::string folder = layout.servers_folder() + "/" + name;
        server.stats = ReadSmallFile(files, folder + "/stats");
        std::vector<std::string> pins;
        files.List(folder + "/pins", &pins);
        server.pins = static_cast<int64_t>(pins.size());
        servers.push_back(std::move(server));
    }
    return servers;
}

void RemoveServerFolder(FileSystem& files, const StoreLayout& layout, const std::string& server) {
    const std::string folder = layout.servers_folder() + "/" + server;
    std::vector<std::string> pins;
    files.List(folder + "/pins", &pins);
    for (const std::string& pin : pins) {
        IoPool::Beat();
        files.Unlink(folder + "/pins/" + pin);
    }
    files.RemoveDirectory(folder + "/pins");
    for (const char* name : {"/reserved", "/stats", "/stats.tmp"}) files.Unlink(folder + name);
    files.Unlink(layout.collector_file() + "." + server);
    files.RemoveDirectory(folder);
}

}  // namespace ucm
