#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/file_system.h"
#include "store/store_layout.h"

namespace ucm {

/** What a server's folder says of it. */
struct ServerReport {
    std::string name;
    /** Its process has ended, or it gave no sign of life for two minutes. */
    bool dead = false;
    /** Of its last sign of life, by the file system's clock; 0 when there is none. */
    int64_t heartbeat_at = 0;
    /** Of the quota. */
    int64_t claim_bytes = 0;
    int64_t pins = 0;
    /** Lines of `name value`: its namespace, its store and what that counted; empty when it tells nothing. */
    std::string stats;
};

/** Nanoseconds since 1970. */
int64_t SystemClock();

/** Up to 4096 bytes of a file; empty when it cannot be read. */
std::string ReadSmallFile(FileSystem& files, const std::string& path);
/** 0 or a negative errno. */
int WriteSmallFile(FileSystem& files, const std::string& path, const std::string& text, int flags);

bool IsDeadServer(FileSystem& files, const StoreLayout& layout, const std::string& server,
                  int64_t now);
int64_t ClaimOf(FileSystem& files, const StoreLayout& layout, const std::string& server);
/** All servers of the layout's folder. */
std::vector<ServerReport> ListServers(FileSystem& files, const StoreLayout& layout, int64_t now);
void RemoveServerFolder(FileSystem& files, const StoreLayout& layout, const std::string& server);

}  // namespace ucm
