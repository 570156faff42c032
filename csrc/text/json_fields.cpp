#include "text/json_fields.h"

#include "base/error.h"

namespace forerun {

JsonField JsonField::operator[](std::string_view key) const {
  const std::string path = path_ + (path_.ends_with(':') ? " " : ".") + std::string(key);
  if (!present()) return {nullptr, path};
  if (!value_->is_object()) bad("an object");
  const auto it = value_->find(std::string(key));
  return {it == value_->end() ? nullptr : &*it, path};
}

JsonField JsonField::at(size_t index) const {
  return {&(*value_)[index], path_ + "[" + std::to_string(index) + "]"};
}

size_t JsonField::size() const {
  if (!present()) return 0;
  if (!value_->is_array()) bad("an array");
  return value_->size();
}

const std::string& JsonField::text() const {
  if (!present() || !value_->is_string()) bad("a string");
  return value_->get_ref<const std::string&>();
}

std::string JsonField::text(std::string_view fallback) const {
  return present() ? text() : std::string(fallback);
}

bool JsonField::boolean(bool fallback) const {
  if (!present()) return fallback;
  if (!value_->is_boolean()) bad("true or false");
  return value_->get<bool>();
}

int64_t JsonField::integer() const {
  if (!present() || !value_->is_number_integer()) bad("an integer");
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > INT64_MAX) bad("a smaller integer");
  return value_->get<int64_t>();
}

std::string JsonField::token_text() const {
  if (!present()) return {};
  return value_->is_object() ? (*this)["content"].text() : text();
}

void JsonField::bad(const std::string& expected) const {
  throw Error(ErrorKind::kBadFile, path_ + " is " +
                                       (value_ == nullptr ? "missing" : value_->type_name()) +
                                       ", expected " + expected);
}

}  // namespace forerun
