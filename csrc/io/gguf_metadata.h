#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "io/byte_cursor.h"
#include "io/checkpoint.h"

namespace forerun {

// Reads `count` key-value pairs of a GGUF header into `metadata`. Refuses keys that are empty, too
// long, not printable ASCII or given twice, unknown value types, arrays of arrays, and counts that
// the file cannot hold.
void read_gguf_metadata(ByteCursor& cursor, uint64_t count,
                        std::map<std::string, MetaValue, std::less<>>& metadata);

// A key or tensor name: non-empty printable ASCII of at most `cap` bytes.
std::string read_gguf_name(ByteCursor& cursor, uint64_t cap, std::string_view what);

}  // namespace forerun
