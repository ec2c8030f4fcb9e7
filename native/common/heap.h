#pragma once

namespace ucm {

/**
 * What the C library does with freed memory. Loading weights frees many large buffers, which must go
 * back to the system so that the peak stays near the weights' own size. A running model frees and
 * takes the same intermediates in every step, and a page fault for each would cost more than some of
 * the operations: then freed memory is kept.
 */
enum class FreedMemory { kReturned, kKept };

void SetFreedMemory(FreedMemory policy);

}  // namespace ucm
