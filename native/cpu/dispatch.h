#pragma once

#include <string>
#include <vector>

#include "common/status.h"
#include "cpu/kernels.h"

namespace ucm::cpu {

/** The tables that this machine can run, best first. */
const std::vector<const Kernels*>& AvailableKernels();

/** The table called `name`, or the best one for null; fails for one that does not exist or run
 * here. */
Status FindKernels(const char* name, const Kernels** kernels);

/** FindKernels of the environment variable UCM_CPU_ISA, decided once per process. */
Status SelectedKernels(const Kernels** kernels);

}  // namespace ucm::cpu
