#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace forerun {

// Sets of processor cores by number, so that two back ends of one machine do not share any.

// The cores this process may run on, ascending.
std::vector<int> usable_cores();

// "0-3,6" -> 0 1 2 3 6. Error(kBadArgument) for text of another form, a core that this process may
// not use, or one that is named twice.
std::vector<int> parse_cores(std::string_view text);
std::string cores_text(std::span<const int> cores);  // the inverse, shortest form

// From now on the calling thread runs on these cores only; all of them when the set is empty or the
// system refuses.
void bind_thread(std::span<const int> cores) noexcept;

}  // namespace forerun
