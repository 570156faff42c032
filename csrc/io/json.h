#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace forerun {

// Parses a whole JSON document from an untrusted file. Throws Error(kBadFile) naming the file and
// what is wrong: a syntax error with its byte, text that is not UTF-8, nesting deeper than 64, or a
// key given twice in one object (two readers could then disagree about its value).
nlohmann::json parse_json(std::string_view text, const std::string& path);

}  // namespace forerun
