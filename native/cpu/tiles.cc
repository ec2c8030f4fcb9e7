#include "cpu/tiles.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace ucm::cpu {

bool RequestTiles() {
    constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
    const unsigned needed = bit_AMX_BF16 | bit_AMX_TILE | bit_AMX_INT8;
    return (edx & needed) == needed &&
           syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace ucm::cpu
