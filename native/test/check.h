#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace ucm::test {

struct Test {
    std::string name;
    std::function<void()> body;
};

/** All tests of the binary, in order of registration. */
std::vector<Test>& Registry();

/** Registers a test at start-up. */
struct Registration {
    Registration(const char* name, std::function<void()> body) {
        Registry().push_back({name, std::move(body)});
    }
};

[[noreturn]] inline void Fail(const char* file, int line, const std::string& what) {
    std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
    std::exit(1);
}

}  // namespace ucm::test

#define UCM_TEST(name)                                                       \
    static void name();                                                      \
    static const ::ucm::test::Registration name##_registration(#name, name); \
    static void name()

#define UCM_CHECK(condition)                                                 \
    do {                                                                     \
        if (!(condition)) ::ucm::test::Fail(__FILE__, __LINE__, #condition); \
    } while (false)

#define UCM_CHECK_MESSAGE(condition, message)                                                  \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            ::ucm::test::Fail(__FILE__, __LINE__, std::string(#condition) + ": " + (message)); \
        }                                                                                      \
    } while (false)
