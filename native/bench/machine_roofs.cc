// The machine's roofs as one line of JSON, for a benchmark of the same run to stand beside.
// Usage: machine_roofs THREADS
#include <cstdio>
#include <cstdlib>

#include "bench/roofs.h"
#include "cpu/dispatch.h"

int main(int argc, char** argv) {
    const int threads = argc == 2 ? std::atoi(argv[1]) : 0;
    if (threads < 1 || threads > 1024) {
        std::fprintf(stderr, "usage: machine_roofs THREADS\n");
        return 2;
    }
    const ucm::cpu::Kernels* kernels = nullptr;
    const ucm::Status status = ucm::cpu::SelectedKernels(&kernels);
    if (!status.ok()) {
        std::fprintf(stderr, "%s\n", status.message().c_str());
        return 1;
    }
    ucm::ThreadPool pool(threads);
    const ucm::bench::Roofs roofs = ucm::bench::MeasureRoofs(pool, *kernels);
    std::printf("{%s}\n", ucm::bench::JsonOf(roofs, *kernels, pool).c_str());
    return 0;
}
