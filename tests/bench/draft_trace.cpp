#include "draft_trace.h"

#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>

#include "base/error.h"
#include "engine/session_state.h"

namespace forerun::bench {
namespace {

// Writes down what the target ranked after every node that was verified.
class Recorder final : public Drafter {
 public:
  Recorder(std::unique_ptr<Drafter> inner, std::ostream& out)
      : inner_(std::move(inner)), out_(out) {}
  std::string name() const override { return inner_->name(); }
  void begin(std::span<const int32_t> context) override { inner_->begin(context); }
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override {
    inner_->propose(context, budget, noise, tree);
  }
  void observe(std::span<const int32_t> context, const Observation& truth) override {
    const DraftTree& tree = *truth.tree;
    const size_t root = context.size() - truth.path.size() - 1;
    std::vector<uint8_t> on_path(static_cast<size_t>(tree.size()));
    for (const int32_t node : truth.path) on_path[static_cast<size_t>(node)] = 1;
    for (int32_t node = 0; node < tree.size(); ++node) {
      const size_t at = static_cast<size_t>(node);
      out_ << "R " << root + static_cast<size_t>(tree.depth()[at]) << ' ' << int{on_path[at]} << ' '
           << tree.token()[at];
      for (int32_t rank = 0; rank < truth.k; ++rank) {
        out_ << ' ' << truth.node_topk[static_cast<size_t>(node * truth.k + rank)];
      }
      out_ << '\n';
    }
    inner_->observe(context, truth);
  }
  void rewind(std::span<const int32_t> context) override { inner_->rewind(context); }
  std::unique_ptr<Drafter> fork() const override { return inner_->fork(); }
  int32_t wanted_topk() const override { return DraftTrace::kRanks; }

 private:
  std::unique_ptr<Drafter> inner_;
  std::ostream& out_;
};

std::vector<int32_t> tokens_of(std::istream& line) {
  std::vector<int32_t> tokens;
  for (int32_t token; line >> token;) tokens.push_back(token);
  return tokens;
}

void write(std::ostream& out, const std::vector<int32_t>& tokens) {
  for (const int32_t token : tokens) out << ' ' << token;
  out << '\n';
}

}  // namespace

std::vector<DraftTrace> read_traces(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorKind::kBadArgument, path + ": cannot be read");
  std::vector<DraftTrace> traces;
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    char kind = 0;
    line >> kind;
    if (kind == 'P') {
      line >> traces.emplace_back().category;
      traces.back().prompt = tokens_of(line);
    } else if (traces.empty()) {
      throw Error(ErrorKind::kBadFile, path + ": does not begin with a P line");
    } else if (kind == 'O') {
      traces.back().output = tokens_of(line);
    } else if (kind == 'R') {
      int64_t position = 0;
      int32_t on_path = 0, token = 0;
      line >> position >> on_path >> token;
      const DraftTrace::Row row = tokens_of(line);
      if (on_path != 0) traces.back().on_path[position] = row;
      traces.back().by_token[token].push_back({position, on_path != 0, row});
    }
  }
  return traces;
}

void record_traces(const std::string& model, const std::string& prompts, const std::string& out,
                   int32_t tokens) {
  EngineOptions options;
  options.target = model;
  options.draft = "recycle";
  options.context = 4096;
  options.fixed_draft = 15;
  const auto engine = std::make_shared<EngineState>(options);
  std::ofstream file(out);
  for (const DraftTrace& asked : read_traces(prompts)) {
    file << "P " << asked.category;
    write(file, asked.prompt);
    SessionState session(engine, {}, 0, -1);
    session.drafter = std::make_unique<Recorder>(std::move(session.drafter), file);
    session.append(asked.prompt);
    const size_t begin = asked.prompt.size();
    SessionState* const only = &session;
    bool running = true;
    while (running && session.tokens.size() < begin + static_cast<size_t>(tokens)) {
      const auto left =
          static_cast<int32_t>(begin + static_cast<size_t>(tokens) - session.tokens.size());
      session.most = left;
      const StepResult result = std::move(decode_step(*engine, {&only, 1}).front()).value();
      running = result.state == StepState::kRunning;
    }
    file << "O";
    write(file, {session.tokens.begin() + static_cast<ptrdiff_t>(begin), session.tokens.end()});
    file.flush();
  }
}

}  // namespace forerun::bench
