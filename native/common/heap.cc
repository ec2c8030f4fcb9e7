#include "common/heap.h"

#include <malloc.h>

namespace ucm {
namespace {

/** glibc's defaults, and its upper limit of the threshold above which an allocation is a mapping. */
constexpr int kDefaultThreshold = 128 << 10;
constexpr int kMaxMmapThreshold = 32 << 20;
constexpr int kKeptAtTop = 1 << 30;

}  // namespace

void SetFreedMemory(FreedMemory policy) {
    const bool kept = policy == FreedMemory::kKept;
    mallopt(M_MMAP_THRESHOLD, kept ? kMaxMmapThreshold : kDefaultThreshold);
    mallopt(M_TRIM_THRESHOLD, kept ? kKeptAtTop : kDefaultThreshold);
}

}  // namespace ucm
