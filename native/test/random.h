#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace ucm::test {

/** Seeded source of test data. */
class Random {
  public:
    explicit Random(uint32_t seed) : engine_(seed) {}

    float Normal() { return normal_(engine_); }
    /** An integer in [low, high]. */
    int64_t Integer(int64_t low, int64_t high) {
        return std::uniform_int_distribution<int64_t>(low, high)(engine_);
    }
    std::vector<float> Normals(int64_t count) {
        std::vector<float> values(static_cast<std::size_t>(count));
        for (float& value : values) value = Normal();
        return values;
    }
    template <typename T>
    const T& Pick(const std::vector<T>& values) {
        return values[static_cast<std::size_t>(
            Integer(0, static_cast<int64_t>(values.size()) - 1))];
    }
    std::mt19937& engine() { return engine_; }

  private:
    std::mt19937 engine_;
    std::normal_distribution<float> normal_;
};

}  // namespace ucm::test
