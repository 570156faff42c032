#pragma once

#include <string>

namespace forerun::emulated {

// Ends the program: "emulated GPU: <text>", with the kernel, block and thread that run, if any.
// What a real GPU answers with an error, with a hang or with wrong numbers.
[[noreturn]] void fault(const std::string& text);

// An access outside of the memory of the device is told with the buffer next to it.
void watch_for_faults();

}  // namespace forerun::emulated
