#pragma once

#include <cstdint>

#include "cpu/kernels.h"

namespace ucm {

using cpu::Dtype;

constexpr int64_t BytesOf(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : 2; }

}  // namespace ucm
