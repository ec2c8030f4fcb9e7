#include "common/process.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace ucm {

Status EndWithParent(int parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        return {StatusCode::kIo, std::string("prctl: ") + std::strerror(errno)};
    }
    // A parent that ended before the call sends no signal.
    if (getppid() != parent) raise(SIGKILL);
    return Status::Ok();
}

Status PinToCores(std::span<const int32_t> cores) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int32_t core : cores) {
        if (core < 0 || core >= CPU_SETSIZE) {
            return Status::InvalidArgument("core " + std::to_string(core) + " does not exist");
        }
        CPU_SET(static_cast<std::size_t>(core), &set);
    }
    if (sched_setaffinity(0, sizeof(set), &set) == 0) return Status::Ok();
    return {StatusCode::kIo,
            std::string("cannot pin to the given cores: ") + std::strerror(errno)};
}

}  // namespace ucm
