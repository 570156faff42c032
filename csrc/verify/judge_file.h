#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "model/made_for.h"
#include "verify/judge.h"

namespace forerun {

// A judge head from a file (docs/formats.md): sigmoid(w h + b) of the hidden row h. Immutable,
// shared by all sequences.
class LinearJudge final : public JudgeHead {
 public:
  // Error(kBadFile) naming what is missing or out of range, Error(kUnsupported) for another format.
  static std::shared_ptr<const LinearJudge> load(const Checkpoint& file);

  double correct(std::span<const float> hidden) const override;
  // Error(kBadArgument) with the reason when it was trained for another target.
  void check_fit(const ModelConfig& target, uint64_t tokenizer_fingerprint) const;

 private:
  std::string path_;
  MadeFor target_;
  std::vector<float> weight_;  // [width]
  float bias_ = 0.0F;
};

// The head that the options of `verify` name; null unless it is "judge" and the option judge.head
// names a file. Error as open_checkpoint and LinearJudge::load.
std::shared_ptr<const LinearJudge> load_judge(const std::string& verify,
                                              const MethodOptions& options);

}  // namespace forerun
