// Runs every test, or those whose name contains the first argument; stops at the first failure.
#include <chrono>

#include "test/check.h"

namespace ucm::test {

std::vector<Test>& Registry() {
    static std::vector<Test> tests;
    return tests;
}

}  // namespace ucm::test

int main(int argc, char** argv) {
    int run = 0;
    for (const ucm::test::Test& test : ucm::test::Registry()) {
        if (argc > 1 && test.name.find(argv[1]) == std::string::npos) continue;
        const auto start = std::chrono::steady_clock::now();
        test.body();
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        std::printf("ok %-50s %6.2f s\n", test.name.c_str(), elapsed.count());
        std::fflush(stdout);
        ++run;
    }
    std::printf("%d tests passed\n", run);
    return run == 0 ? 1 : 0;
}
