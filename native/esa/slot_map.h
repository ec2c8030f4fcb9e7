#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ucm::esa {

/** A candidate that comes into a slot of a layer. */
struct Move {
    int32_t layer;
    int32_t slot;
    int32_t candidate;
};

/** Which candidate is in which slot: the slots are the same at every layer, what is in them not. */
class SlotMap {
  public:
    SlotMap(int64_t layers, int64_t slots)
        : slots_(slots), contents_(static_cast<std::size_t>(layers * slots), -1) {}

    int64_t slots() const { return slots_; }
    /** Candidate of each slot of the layer; -1 for none. */
    std::span<const int32_t> At(int64_t layer) const {
        return {contents_.data() + layer * slots_, static_cast<std::size_t>(slots_)};
    }
    void Put(int64_t layer, int64_t slot, int32_t candidate) {
        contents_[static_cast<std::size_t>(layer * slots_ + slot)] = candidate;
    }
    void Apply(std::span<const Move> moves) {
        for (const Move& move : moves) Put(move.layer, move.slot, move.candidate);
    }

    /**
     * Appends the moves after which the layer holds exactly `chosen`, as many rising candidates as
     * there are slots; what is wanted and there already stays where it is.
     */
    void Plan(int64_t layer, std::span<const int32_t> chosen, std::vector<Move>* moves) const;

    /** Slots of the layer by rising candidate: the order of their positions. */
    std::vector<int32_t> Order(int64_t layer) const;

  private:
    int64_t slots_;
    /** [layer][slot] */
    std::vector<int32_t> contents_;
};

}  // namespace ucm::esa
