#include "cpu/tiles.h"

namespace ucm::cpu {

bool RequestTiles() { return true; }

}  // namespace ucm::cpu
