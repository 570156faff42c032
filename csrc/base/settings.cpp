#include "base/settings.h"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <utility>

#include "base/error.h"

namespace forerun {
namespace {

template <typename Number>
bool read_all(const std::string& text, Number& value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

std::string range_text(auto low, auto high) {
  std::ostringstream text;
  text << low << " to " << high;
  return text.str();
}

}  // namespace

Settings::Settings(std::string method, const MethodOptions& all) : method_(std::move(method)) {
  const std::string start = method_ + ".";
  for (const auto& [key, value] : all) {
    if (key.starts_with(start)) values_[key.substr(start.size())] = value;
  }
}

const std::string* Settings::find(const std::string& key) {
  known_.push_back(key);
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

void Settings::refuse(const std::string& key, const std::string& expected) const {
  throw Error(ErrorKind::kBadArgument, "option " + method_ + "." + key + " is '" + values_.at(key) +
                                           "', expected " + expected);
}

int64_t Settings::integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) {
  const std::string* text = find(key);
  if (text == nullptr) return fallback;
  int64_t value = 0;
  if (!read_all(*text, value) || value < low || value > high) {
    refuse(key, "a whole number from " + range_text(low, high));
  }
  return value;
}

double Settings::real(const std::string& key, double fallback, double low, double high) {
  const std::string* text = find(key);
  if (text == nullptr) return fallback;
  double value = 0.0;
  if (!read_all(*text, value) || !(value >= low && value <= high)) {
    refuse(key, "a number from " + range_text(low, high));
  }
  return value;
}

int64_t Settings::bytes(const std::string& key, int64_t fallback) {
  const std::string* text = find(key);
  if (text == nullptr) return fallback;
  std::string digits = *text;
  int shift = 0;
  if (!digits.empty()) {
    switch (digits.back()) {
      case 'K':
        shift = 10;
        break;
      case 'M':
        shift = 20;
        break;
      case 'G':
        shift = 30;
        break;
      default:
        break;
    }
    if (shift > 0) digits.pop_back();
  }
  int64_t value = 0;
  if (!read_all(digits, value) || value < 0 || value > (INT64_MAX >> shift)) {
    refuse(key, "a number of bytes such as 65536, 64K, 64M or 1G");
  }
  return value << shift;
}

std::string Settings::text(const std::string& key, const std::string& fallback) {
  const std::string* text = find(key);
  return text == nullptr ? fallback : *text;
}

std::string Settings::choice(const std::string& key, std::initializer_list<const char*> values) {
  const std::string* text = find(key);
  if (text == nullptr) return *values.begin();
  std::string expected;
  for (const char* value : values) {
    if (*text == value) return *text;
    expected += std::string(expected.empty() ? "" : " or ") + value;
  }
  refuse(key, expected);
}

void Settings::done() const {
  for (const auto& [key, value] : values_) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    std::string list;
    for (const std::string& name : known_) list += (list.empty() ? "" : ", ") + name;
    throw Error(ErrorKind::kBadArgument, "option " + method_ + "." + key + " is unknown; " +
                                             method_ +
                                             (list.empty() ? " has no options" : " has " + list));
  }
}

}  // namespace forerun
