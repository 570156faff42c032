#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace forerun {

// Turns token bytes into text that is always valid UTF-8: holds back an unfinished character until it is complete
// and replaces what can never become one by U+FFFD (one per maximal invalid part, as Unicode recommends).
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  std::string finish();  // what is held back, replaced

 private:
  std::string held_;
};

// Finds stop strings across piece borders. Text that could still become a stop string is held back.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // empty strings are refused: Error(kBadArgument)

  // Text that is safe to show. After a match, `stopped()` is true and the text ends before the stop string.
  std::string push(std::string_view text);
  std::string finish();  // the held-back rest
  bool stopped() const { return stopped_; }
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_, matched_;
  bool stopped_ = false;
};

}  // namespace forerun
