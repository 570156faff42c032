#include "io/json.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "io/file_error.h"

namespace forerun {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxValues = size_t{1} << 23;  // an empty one takes some 30 times its text

// Builds the document from parser events; an event that returns false ends the parse.
class Builder final : public nlohmann::json_sax<json> {
 public:
  json take() { return std::move(root_); }
  const std::string& problem() const { return problem_; }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return stop("binary values are not JSON"); }

  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    json& object = *open_.back();
    if (object.contains(name))
      return stop("key " + in_quotes(name) + " occurs twice in one object");
    slot_ = &object[name];
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // The library's text ends in the offending input, which may be long or not printable.
    const bool range = error.id == 406;  // out_of_range.406: a number too large for a double
    return stop(std::string(range ? "a number is out of range" : "not valid JSON") + " at byte " +
                std::to_string(position));
  }

 private:
  bool stop(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  json* place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool add(json value) {
    if (++values_ > kMaxValues) return stop("more than " + std::to_string(kMaxValues) + " values");
    slot_ = place(std::move(value));
    return true;
  }

  bool open(json container) {
    if (open_.size() == kMaxDepth) {
      return stop("nested deeper than " + std::to_string(kMaxDepth));
    }
    if (!add(std::move(container))) return false;
    open_.push_back(slot_);
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  size_t values_ = 0;
  json root_;
  std::vector<json*> open_;  // the containers around the current event; a parent does not grow
                             // while a child is open
  json* slot_ = nullptr;     // the member that the last key made, or the value that was added last
  std::string problem_;
};

}  // namespace

json parse_json(std::string_view text, const std::string& path) {
  Builder builder;
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    bad_file(path, "JSON", builder.problem().empty() ? "not valid JSON" : builder.problem());
  }
  return builder.take();
}

}  // namespace forerun
