#include "cpu/dispatch.h"

#include <cstdlib>

#include "cpu/tiles.h"

namespace ucm::cpu {
namespace {

/** CPUID traps in virtual machines, so callers ask once. */
std::vector<const Kernels*> DetectKernels() {
    std::vector<const Kernels*> tables;
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    if (avx512) tables.push_back(&kAvx512Kernels);
    if (avx512 && __builtin_cpu_supports("avx512bf16")) {
        if (RequestTiles()) tables.insert(tables.begin(), &kAmxKernels);
        // Where it is no faster than multiply-adds of floats, as on Intel's, it runs when asked for.
        tables.insert(__builtin_cpu_is("amd") ? tables.begin() : tables.end(), &kAvx512Bf16Kernels);
    }
    if (avx2) tables.push_back(&kAvx2Kernels);
    tables.push_back(&kScalarKernels);
    return tables;
}

}  // namespace

const std::vector<const Kernels*>& AvailableKernels() {
    static const std::vector<const Kernels*> tables = DetectKernels();
    return tables;
}

Status FindKernels(const char* name, const Kernels** kernels) {
    std::string names;
    for (const Kernels* table : AvailableKernels()) {
        if (name == nullptr || std::string(name) == table->name) {
            *kernels = table;
            return Status::Ok();
        }
        names += names.empty() ? table->name : std::string(", ") + table->name;
    }
    return {StatusCode::kUnsupported, "UCM_CPU_ISA is '" + std::string(name) +
                                          "', but this machine can run: " + names +
                                          "; unset it to use the best"};
}

Status SelectedKernels(const Kernels** kernels) {
    struct Selection {
        const Kernels* kernels = nullptr;
        Status status;
    };
    static const Selection selection = [] {
        Selection chosen;
        const char* name = std::getenv("UCM_CPU_ISA");
        const bool forced = name != nullptr && *name != '\0';
        chosen.status = FindKernels(forced ? name : nullptr, &chosen.kernels);
        return chosen;
    }();
    *kernels = selection.kernels;
    return selection.status;
}

}  // namespace ucm::cpu
