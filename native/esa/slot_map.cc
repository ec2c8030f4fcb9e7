#include "esa/slot_map.h"

#include <algorithm>
#include <numeric>

namespace ucm::esa {

void SlotMap::Plan(int64_t layer, std::span<const int32_t> chosen, std::vector<Move>* moves) const {
    const std::span<const int32_t> contents = At(layer);
    std::vector<int32_t> present(contents.begin(), contents.end());
    std::sort(present.begin(), present.end());
    const auto is_in = [](const auto& sorted, int32_t candidate) {
        return std::binary_search(sorted.begin(), sorted.end(), candidate);
    };
    std::size_t slot = 0;
    for (const int32_t candidate : chosen) {
        if (is_in(present, candidate)) continue;
        while (is_in(chosen, contents[slot])) ++slot;
        moves->push_back({static_cast<int32_t>(layer), static_cast<int32_t>(slot++), candidate});
    }
}

std::vector<int32_t> SlotMap::Order(int64_t layer) const {
    const std::span<const int32_t> contents = At(layer);
    std::vector<int32_t> order(contents.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return contents[static_cast<std::size_t>(a)] < contents[static_cast<std::size_t>(b)];
    });
    return order;
}

}  // namespace ucm::esa
