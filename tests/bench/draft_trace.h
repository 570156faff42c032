#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace forerun::bench {

// One request as a target model answered it, so that drafters can be compared without the model:
// the prompt, the greedy output, and what the target ranked highest after tree nodes.
struct DraftTrace {
  static constexpr int32_t kRanks = 8;
  using Row = std::vector<int32_t>;  // [kRanks], best first

  std::string category;
  std::vector<int32_t> prompt, output;
  std::map<int64_t, Row> on_path;  // by the position of the token that the row follows
  struct Seen {
    int64_t position;
    bool on_path;
    Row row;
  };
  std::map<int32_t, std::vector<Seen>> by_token;  // all nodes, rejected ones too
};

// Text files of lines "P category token..", "O token..", "R position on_path token rank..".
std::vector<DraftTrace> read_traces(const std::string& path);

// Answers the prompts of a file of "P" lines with `model` and writes their traces.
void record_traces(const std::string& model, const std::string& prompts, const std::string& out,
                   int32_t tokens);

}  // namespace forerun::bench
