#include "text/utf8.h"

namespace forerun {
namespace {

// Length of the sequence that a lead byte announces and the bounds of its second byte (Unicode
// table 3-7).
struct Lead {
  size_t length;
  uint8_t low, high;
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Part scan_utf8(std::string_view text, size_t at) {
  const Lead lead = lead_of(static_cast<uint8_t>(text[at]));
  if (lead.length == 0) return {Utf8State::kInvalid, 1};
  for (size_t i = 1; i < lead.length; ++i) {
    if (at + i == text.size()) return {Utf8State::kUnfinished, i};
    const auto byte = static_cast<uint8_t>(text[at + i]);
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) return {Utf8State::kInvalid, i};
  }
  return {Utf8State::kComplete, lead.length};
}

CodePoint decode_utf8(std::string_view text, size_t at) {
  const auto first = static_cast<uint8_t>(text[at]);
  if (first < 0x80) return {first, 1};
  const Utf8Part part = scan_utf8(text, at);
  if (part.state != Utf8State::kComplete) return {kInvalidByte + first, 1};
  uint32_t value = first & (0xFFU >> (part.length + 1));
  for (size_t i = 1; i < part.length; ++i) {
    value = value << 6 | (static_cast<uint8_t>(text[at + i]) & 0x3FU);
  }
  return {value, static_cast<uint32_t>(part.length)};
}

void append_utf8(std::string& text, uint32_t code_point) {
  const auto put = [&text](uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < kInvalidByte) {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(code_point - kInvalidByte);
  }
}

bool is_valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Part part = scan_utf8(text, at);
    if (part.state != Utf8State::kComplete) return false;
    at += part.length;
  }
  return true;
}

}  // namespace forerun
