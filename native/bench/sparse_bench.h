#pragma once

#include "common/thread_pool.h"
#include "cpu/kernels.h"

namespace ucm::bench {

/**
 * Decode attention over all layers, dense and over what ESA keeps, selection and loads included, on
 * two model shapes, several contexts and batches (UCM_BENCH_CASE=layers,batch,context: one of them); `bandwidth` is what the machine reads, in bytes per
 * second.
 */
void BenchSparse(const cpu::Kernels& kernels, ThreadPool& pool, double bandwidth);

}  // namespace ucm::bench
