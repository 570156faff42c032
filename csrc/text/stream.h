#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace forerun {

// Turns token bytes into text that is always valid UTF-8: holds back an unfinished character until
// it is complete and replaces what can never become one by U+FFFD (one per maximal invalid part, as
// Unicode recommends).
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  std::string finish();  // what is held back, replaced

 private:
  std::string held_;
};

// Finds stop strings across piece borders. Text that could still become a stop string is held back.
// The stop string that is complete first wins, of several that end together the longest; so the
// result never depends on how the text was cut into pieces. One Knuth-Morris-Pratt automaton per
// stop string.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // empty or not UTF-8: Error(kBadArgument)

  // Text that is safe to show. After a match, `stopped()` is true and the text ends before the stop
  // string.
  std::string push(std::string_view text);
  std::string finish();  // the held-back rest
  bool stopped() const { return stopped_; }
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::vector<std::vector<size_t>> borders_;  // per stop string: where to go on after a mismatch
  std::vector<size_t> progress_;  // per stop string: bytes of it that end the text so far
  std::string held_, matched_;
  bool stopped_ = false;
};

}  // namespace forerun
