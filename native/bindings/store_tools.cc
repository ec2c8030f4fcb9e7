// Tools for a store's folder. They wait for its device: callers run them in a process of their own.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "bindings/addon.h"
#include "bindings/arguments.h"
#include "store/block_verify.h"
#include "store/folder_scan.h"
#include "store/server_folder.h"

namespace ucm::bindings {
namespace {

constexpr std::chrono::milliseconds kBeatInterval{200};
constexpr std::size_t kMaxFailures = 16;
constexpr int64_t kNanosPerMilli = 1'000'000;

/** The kernel's file system for a walk; tells JS that calls return, and keeps those that failed. */
class WatchedFileSystem final : public FileSystem {
  public:
    explicit WatchedFileSystem(Napi::Function beat) : beat_(std::move(beat)) {}

    struct Failure {
        std::string path;
        int error;
    };
    const std::vector<Failure>& failures() const { return failures_; }

    int Open(const std::string& path, int flags, int mode) override {
        return Watch(path, posix_->Open(path, flags, mode));
    }
    int Close(int file) override { return posix_->Close(file); }
    ssize_t Read(int file, void* data, std::size_t size, int64_t offset) override {
        return posix_->Read(file, data, size, offset);
    }
    ssize_t Write(int file, const void* data, std::size_t size, int64_t offset) override {
        return posix_->Write(file, data, size, offset);
    }
    int SyncData(int file) override { return posix_->SyncData(file); }
    int Truncate(int file, int64_t size) override { return posix_->Truncate(file, size); }
    int UseCache(int file) override { return posix_->UseCache(file); }
    int FileStatus(int file, FileInfo* info) override { return posix_->FileStatus(file, info); }
    int PathStatus(const std::string& path, FileInfo* info) override {
        return Watch(path, posix_->PathStatus(path, info));
    }
    int TouchRead(int file) override { return posix_->TouchRead(file); }
    int TouchWritten(const std::string& path) override { return posix_->TouchWritten(path); }
    int Rename(const std::string& from, const std::string& to) override {
        return posix_->Rename(from, to);
    }
    int Link(const std::string& from, const std::string& to) override {
        return posix_->Link(from, to);
    }
    int Unlink(const std::string& path) override { return posix_->Unlink(path); }
    int MakeDirectory(const std::string& path) override { return posix_->MakeDirectory(path); }
    int RemoveDirectory(const std::string& path) override { return posix_->RemoveDirectory(path); }
    int List(const std::string& path, std::vector<std::string>* names) override {
        return Watch(path, posix_->List(path, names));
    }

  private:
    int Watch(const std::string& path, int result) {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_beat_ >= kBeatInterval) {
            last_beat_ = now;
            beat_.Call({});
        }
        // What is gone is no failure, and not everything that is listed is a folder.
        const bool gone = result == -ENOENT || result == -ESTALE || result == -ENOTDIR;
        const bool fails = result < 0 && !gone;
        if (fails && failures_.size() < kMaxFailures) failures_.push_back({path, -result});
        return result;
    }

    const std::shared_ptr<FileSystem> posix_ = FileSystem::Posix();
    const Napi::Function beat_;
    std::chrono::steady_clock::time_point last_beat_{};
    std::vector<Failure> failures_;
};

StoreLayout LayoutOf(const std::string& folder) {
    return StoreLayout(folder, Digest{}, ServerId::Make());
}

Napi::Number Number(Napi::Env env, int64_t value) {
    return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Number Millis(Napi::Env env, int64_t nanos) {
    return Napi::Number::New(env, static_cast<double>(nanos / kNanosPerMilli));
}

void SetBlocks(Napi::Env env, const FolderScan& scan, Napi::Object* report) {
    const std::size_t count = scan.blocks.size();
    auto keys = Napi::Uint8Array::New(env, count * 32);
    auto name_spaces = Napi::Uint32Array::New(env, count);
    auto bytes = Napi::Float64Array::New(env, count);
    auto written = Napi::Float64Array::New(env, count);
    auto used = Napi::BigInt64Array::New(env, count);
    auto pinned = Napi::Uint8Array::New(env, count);
    for (std::size_t i = 0; i < count; ++i) {
        const FolderScan::Block& block = scan.blocks[i];
        std::copy(block.key.bytes.begin(), block.key.bytes.end(), keys.Data() + i * 32);
        name_spaces[i] = block.name_space;
        bytes[i] = static_cast<double>(block.bytes);
        written[i] = static_cast<double>(block.written_at / kNanosPerMilli);
        used[i] = block.used_at;
        pinned[i] = block.pinned;
    }
    report->Set("keys", keys);
    report->Set("namespaceIds", name_spaces);
    report->Set("bytes", bytes);
    report->Set("writtenAtMs", written);
    report->Set("usedAtNs", used);
    report->Set("pinned", pinned);
}

Napi::Array LooseFiles(Napi::Env env, const std::vector<FolderScan::Loose>& files) {
    Napi::Array list = Napi::Array::New(env, files.size());
    for (uint32_t i = 0; i < files.size(); ++i) {
        Napi::Object file = Napi::Object::New(env);
        file.Set("path", files[i].path);
        file.Set("bytes", Number(env, files[i].bytes));
        file.Set("writtenAtMs", Millis(env, files[i].written_at));
        ServerId writer;
        const bool is_temp = StoreLayout::ParseTempName(files[i].name, &writer);
        file.Set("isTemp", is_temp);
        file.Set("isOfDeadWriter", is_temp && writer.IsKnownDead());
        list.Set(i, file);
    }
    return list;
}

Napi::Array Servers(Napi::Env env, const std::vector<ServerReport>& servers) {
    Napi::Array list = Napi::Array::New(env, servers.size());
    for (uint32_t i = 0; i < servers.size(); ++i) {
        const ServerReport& server = servers[i];
        Napi::Object object = Napi::Object::New(env);
        object.Set("name", server.name);
        object.Set("isDead", server.dead);
        object.Set("heartbeatAtMs", Millis(env, server.heartbeat_at));
        object.Set("claimBytes", Number(env, server.claim_bytes));
        object.Set("pins", Number(env, server.pins));
        object.Set("stats", server.stats);
        list.Set(i, object);
    }
    return list;
}

Napi::Array Failures(Napi::Env env, const WatchedFileSystem& files) {
    Napi::Array list = Napi::Array::New(env);
    for (const WatchedFileSystem::Failure& failure : files.failures()) {
        Napi::Object object = Napi::Object::New(env);
        object.Set("path", failure.path);
        object.Set("reason", std::strerror(failure.error));
        list.Set(list.Length(), object);
    }
    return list;
}

/** scanStoreFolder(folder, beat). */
Napi::Value ScanStoreFolder(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Reader reader(env, "scanStoreFolder");
    const std::string folder = reader.String(info[0], "folder");
    reader.Require(info[1].IsFunction(), "beat is not a function");
    WatchedFileSystem files(info[1].As<Napi::Function>());
    const StoreLayout layout = LayoutOf(folder);
    const std::vector<ServerReport> servers = ListServers(files, layout, SystemClock());
    const FolderScan scan = ScanFolder(files, layout);
    Napi::Object report = Napi::Object::New(env);
    Napi::Array name_spaces = Napi::Array::New(env);
    for (const std::string& name : scan.namespaces) {
        Napi::Object name_space = Napi::Object::New(env);
        name_space.Set("name", name);
        name_space.Set("about",
                       ReadSmallFile(files, layout.blocks_folder() + "/" + name + "/about"));
        name_spaces.Set(name_spaces.Length(), name_space);
    }
    report.Set("namespaces", name_spaces);
    SetBlocks(env, scan, &report);
    report.Set("usedBytes", Number(env, scan.used_bytes));
    report.Set("temps", LooseFiles(env, scan.temps));
    report.Set("quarantined", LooseFiles(env, scan.quarantined));
    report.Set("pins", LooseFiles(env, scan.pins));
    report.Set("servers", Servers(env, servers));
    report.Set("failures", Failures(env, files));
    return report;
}

/** removeUnusedBlock(path, usedAtNs): 0 or the errno, EBUSY where it was pinned or used. */
Napi::Value RemoveUnusedBlock(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Reader reader(env, "removeUnusedBlock");
    reader.Require(info[1].IsBigInt(), "usedAtNs is not a bigint");
    bool lossless = false;
    const int64_t used_at = info[1].As<Napi::BigInt>().Int64Value(&lossless);
    const std::string path = reader.String(info[0], "path");
    return Number(env, -RemoveUnused(*FileSystem::Posix(), path, used_at));
}

/** quarantineBlock(folder, path, inode): the path that it was moved to, empty when it was not. */
Napi::Value QuarantineBlock(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Reader reader(env, "quarantineBlock");
    const StoreLayout layout = LayoutOf(reader.String(info[0], "folder"));
    const std::string path = reader.String(info[1], "path");
    reader.Require(info[2].IsBigInt(), "inode is not a bigint");
    bool lossless = false;
    const uint64_t inode = info[2].As<Napi::BigInt>().Uint64Value(&lossless);
    const std::size_t name = path.rfind('/') + 1;
    const std::string target = layout.quarantine_folder() + "/" +
                               path.substr(name, path.find('.', name) - name) + "." +
                               layout.server_name() + ".0";
    const bool moved = MoveToQuarantine(*FileSystem::Posix(), layout, path, inode, target);
    return Napi::String::New(env, moved ? target : "");
}

/** removeServerFolder(folder, server): what a server that is dead has left. */
Napi::Value RemoveServer(const Napi::CallbackInfo& info) {
    const Reader reader(info.Env(), "removeServerFolder");
    const std::string server = reader.String(info[1], "server");
    ServerId id;
    reader.Require(server.find('/') == std::string::npos && ServerId::Parse(server, &id),
                   "'" + server + "' is not the name of a server");
    RemoveServerFolder(*FileSystem::Posix(), LayoutOf(reader.String(info[0], "folder")), server);
    return info.Env().Undefined();
}

}  // namespace

void ExportStoreTools(Napi::Env env, Napi::Object exports) {
    Export<ScanStoreFolder>(env, exports, "scanStoreFolder");
    Export<RemoveUnusedBlock>(env, exports, "removeUnusedBlock");
    Export<QuarantineBlock>(env, exports, "quarantineBlock");
    Export<RemoveServer>(env, exports, "removeServerFolder");
}

}  // namespace ucm::bindings
