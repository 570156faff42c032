#include "text/stream.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/utf8.h"

namespace forerun {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
  held_.append(bytes);
  std::string out;
  size_t at = 0;
  while (at < held_.size()) {
    const Utf8Part part = scan_utf8(held_, at);
    if (part.state == Utf8State::kUnfinished) break;
    out += part.state == Utf8State::kComplete ? std::string_view(held_).substr(at, part.length)
                                              : kReplacement;
    at += part.length;
  }
  held_.erase(0, at);
  return out;
}

std::string Utf8Stream::finish() {
  // What is held back is always one unfinished character: one maximal invalid part.
  const bool held = !held_.empty();
  held_.clear();
  return held ? std::string(kReplacement) : std::string();
}

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty())
      throw Error(ErrorKind::kBadArgument, "stop string is empty, expected at least one character");
    if (!is_valid_utf8(stop))
      throw Error(ErrorKind::kBadArgument, "stop string is not valid UTF-8");
    // borders[n]: the longest proper prefix of the stop string that also ends its first n bytes.
    std::vector<size_t> borders(stop.size() + 1, 0);
    for (size_t n = 2, border = 0; n <= stop.size(); ++n) {
      while (border > 0 && stop[border] != stop[n - 1]) border = borders[border];
      if (stop[border] == stop[n - 1]) ++border;
      borders[n] = border;
    }
    borders_.push_back(std::move(borders));
  }
  progress_.assign(stops_.size(), 0);
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) return {};
  held_.append(text);
  for (size_t at = held_.size() - text.size(); at < held_.size(); ++at) {
    size_t longest = 0;
    for (size_t i = 0; i < stops_.size(); ++i) {
      const std::string& stop = stops_[i];
      size_t& matched = progress_[i];
      while (matched > 0 && stop[matched] != held_[at]) matched = borders_[i][matched];
      if (stop[matched] == held_[at]) ++matched;
      if (matched == stop.size() && matched > longest) {
        longest = matched;
        matched_ = stop;
        stopped_ = true;
      }
    }
    if (stopped_) {
      held_.resize(at + 1 - longest);
      return std::exchange(held_, {});
    }
  }
  size_t keep = 0;
  for (const size_t matched : progress_) keep = std::max(keep, matched);
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string StopMatcher::finish() {
  std::fill(progress_.begin(), progress_.end(), 0);
  return std::exchange(held_, {});
}

}  // namespace forerun
