#pragma once

#include <cstdint>
#include <string>

#include "store/block_key.h"

namespace ucm {

/** One open store, told from every other one on every host that shares a folder. */
struct ServerId {
    /** Machine, boot and process-id namespace: where `pid` means something. */
    std::string host;
    int64_t pid = 0;
    /** Of this store among all with that pid, ever. */
    std::string nonce;

    static ServerId Make();
    std::string Name() const { return host + "-" + std::to_string(pid) + "-" + nonce; }
    /** False when `name` is no server's name. */
    static bool Parse(const std::string& name, ServerId* id);
    /** True when its process is known to have ended; of other hosts nothing is known. */
    bool IsKnownDead() const;
};

/**
 * Names under one backend folder:
 *
 *     ucm-v1/blocks/<namespace>/<2 hex>/<key>.kv               blocks
 *     ucm-v1/blocks/<namespace>/<2 hex>/<key>.<server>.<n>.tmp  blocks being written
 *     ucm-v1/blocks/<namespace>/about                          what the namespace is, for people
 *     ucm-v1/quarantine/<key>.<server>.<n>                     damaged files
 *     ucm-v1/servers/<server>/reserved                         its claim on the quota; heartbeat
 *     ucm-v1/servers/<server>/stats                            what it is and counts, for people
 *     ucm-v1/servers/<server>/pins/<key>.kv                    hard links to pinned blocks
 *     ucm-v1/collector                                         the server that recycles now
 *     ucm-v1/collected                                         written when one last did
 */
class StoreLayout {
  public:
    StoreLayout(const std::string& backend, const Digest& name_space, const ServerId& server)
        : backend_(backend),
          root_(backend + "/ucm-v1"),
          namespace_folder_(blocks_folder() + "/" + name_space.Hex()),
          server_name_(server.Name()) {}

    const std::string& backend() const { return backend_; }
    const std::string& root() const { return root_; }
    const std::string& server_name() const { return server_name_; }
    std::string blocks_folder() const { return root_ + "/blocks"; }
    const std::string& namespace_folder() const { return namespace_folder_; }
    std::string about_file() const { return namespace_folder_ + "/about"; }
    std::string quarantine_folder() const { return root_ + "/quarantine"; }
    std::string servers_folder() const { return root_ + "/servers"; }
    std::string server_folder() const { return servers_folder() + "/" + server_name_; }
    std::string pins_folder() const { return server_folder() + "/pins"; }
    std::string reservation_file() const { return server_folder() + "/reserved"; }
    std::string stats_file() const { return server_folder() + "/stats"; }
    std::string collector_file() const { return root_ + "/collector"; }
    std::string collected_file() const { return root_ + "/collected"; }

    std::string ShardFolder(const BlockKey& key) const {
        return namespace_folder_ + "/" + key.Hex().substr(0, 2);
    }
    std::string BlockFile(const BlockKey& key) const {
        return ShardFolder(key) + "/" + key.Hex() + kBlockSuffix;
    }
    std::string TempFile(const BlockKey& key, int64_t n) const {
        return ShardFolder(key) + "/" + key.Hex() + "." + server_name_ + "." + std::to_string(n) +
               kTempSuffix;
    }
    std::string QuarantineFile(const BlockKey& key, int64_t n) const {
        return quarantine_folder() + "/" + key.Hex() + "." + server_name_ + "." + std::to_string(n);
    }
    std::string PinFile(const BlockKey& key) const {
        return pins_folder() + "/" + key.Hex() + kBlockSuffix;
    }

    /** False when `name` is no block file's name. */
    static bool ParseBlockName(const std::string& name, BlockKey* key);
    /** False when `name` is no temporary file's name. */
    static bool ParseTempName(const std::string& name, ServerId* writer);

  private:
    static constexpr const char* kBlockSuffix = ".kv";
    static constexpr const char* kTempSuffix = ".tmp";

    const std::string backend_;
    const std::string root_;
    const std::string namespace_folder_;
    const std::string server_name_;
};

}  // namespace ucm
