#pragma once

#include <string>
#include <string_view>

namespace forerun {

// Every complaint about a file reads "<path>: <field>: <what was expected and found>".
[[noreturn]] void bad_file(const std::string& path, std::string_view field, std::string_view what);
[[noreturn]] void unsupported_file(const std::string& path, std::string_view field,
                                   std::string_view what);

// A name that comes from a file, fit for an error text: in single quotes, bytes other than
// printable ASCII as \xNN, cut after 80 bytes.
std::string in_quotes(std::string_view name);

}  // namespace forerun
