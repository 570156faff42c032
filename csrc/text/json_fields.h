#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace forerun {

using Json = nlohmann::json;

// A value of a JSON file together with its path in it ("tokenizer.json: model.vocab"), so that
// every look-up that finds another type fails with Error(kBadFile) naming the field. A view: the
// document must outlive it.
class JsonField {
 public:
  JsonField(const Json* value, std::string path) : value_(value), path_(std::move(path)) {}

  bool present() const { return value_ != nullptr && !value_->is_null(); }
  const std::string& path() const { return path_; }
  const Json& value() const { return *value_; }

  JsonField operator[](
      std::string_view key) const;   // absent when this is absent or null; Error for a non-object
  JsonField at(size_t index) const;  // an element of an array
  size_t size() const;               // of an array; 0 when absent

  const std::string& text() const;
  std::string text(std::string_view fallback) const;
  bool boolean(bool fallback) const;
  int64_t integer() const;
  // The text of "x" or of {"content": "x"}, the two ways in which special tokens are named; empty
  // when absent.
  std::string token_text() const;

  [[noreturn]] void bad(const std::string& expected) const;

 private:
  const Json* value_;
  std::string path_;
};

}  // namespace forerun
