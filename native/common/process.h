#pragma once

#include <cstdint>
#include <span>

#include "common/status.h"

namespace ucm {

/**
 * Has the kernel kill this process (SIGKILL) when the process `parent` ends, however it does, and
 * kills it now when that has happened already.
 */
Status EndWithParent(int parent);

/** Keeps the calling thread, and the threads that it starts from now on, on these cores. */
Status PinToCores(std::span<const int32_t> cores);

}  // namespace ucm
