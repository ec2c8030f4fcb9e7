#pragma once

namespace ucm::cpu {

/**
 * Whether this process can multiply AMX tiles of bfloat16 and of bytes. The kernel of the system gives a
 * process the tiles' registers on request, which this is.
 */
bool RequestTiles();

}  // namespace ucm::cpu
