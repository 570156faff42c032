#include "io/file_error.h"

#include "base/error.h"

namespace forerun {
namespace {

std::string sentence(const std::string& path, std::string_view field, std::string_view what) {
  std::string text = path;
  text.append(": ").append(field).append(": ").append(what);
  return text;
}

}  // namespace

void bad_file(const std::string& path, std::string_view field, std::string_view what) {
  throw Error(ErrorKind::kBadFile, sentence(path, field, what));
}

void unsupported_file(const std::string& path, std::string_view field, std::string_view what) {
  throw Error(ErrorKind::kUnsupported, sentence(path, field, what));
}

std::string in_quotes(std::string_view name) {
  constexpr size_t kShown = 80;
  constexpr char kHex[] = "0123456789abcdef";
  std::string text = "'";
  for (const char c : name.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F) {
      text += c;
    } else {
      text.append("\\x").append(1, kHex[byte >> 4]).append(1, kHex[byte & 0x0F]);
    }
  }
  return text + (name.size() > kShown ? "...'" : "'");
}

}  // namespace forerun
