#include "verify/judge_file.h"

#include <cmath>

#include "base/blocks.h"
#include "base/error.h"
#include "base/math.h"
#include "model/weights.h"

namespace forerun {
namespace {

constexpr const char* kArchitecture = "forerun-judge";
constexpr int64_t kFormat = 1;

std::vector<float> values(const Checkpoint& file, const std::string& name, int64_t size) {
  const TensorSource& tensor = WeightSource(file).vector(name, size);
  std::vector<float> out(static_cast<size_t>(size));
  dequantize(tensor.dtype, tensor.bytes.data(), size, out.data());
  for (const float value : out) {
    if (!std::isfinite(value)) {
      throw Error(ErrorKind::kBadFile,
                  file.path() + ": tensor '" + name + "' holds a value that is not finite");
    }
  }
  return out;
}

}  // namespace

std::shared_ptr<const LinearJudge> LinearJudge::load(const Checkpoint& file) {
  if (const std::string found = file.text("general.architecture", ""); found != kArchitecture) {
    throw Error(ErrorKind::kBadFile, file.path() + ": general.architecture is '" + found +
                                         "', expected '" + kArchitecture +
                                         "'; `forerun train heads judge` makes such a file");
  }
  const Fields fields(file, "forerun.judge.");
  if (const int64_t format = file.integer("forerun.judge.format"); format != kFormat) {
    throw Error(ErrorKind::kUnsupported, file.path() + ": judge format " + std::to_string(format) +
                                             ", this build reads " + std::to_string(kFormat));
  }
  auto judge = std::make_shared<LinearJudge>();
  judge->path_ = file.path();
  judge->target_ = MadeFor::read(fields);
  judge->weight_ = values(file, "judge.weight", judge->target_.width);
  judge->bias_ = values(file, "judge.bias", 1)[0];
  return judge;
}

double LinearJudge::correct(std::span<const float> hidden) const {
  double sum = bias_;
  for (size_t i = 0; i < weight_.size(); ++i) sum += double{weight_[i]} * hidden[i];
  return 1.0 / (1.0 + exact_exp(-sum));
}

void LinearJudge::check_fit(const ModelConfig& target, uint64_t tokenizer_fingerprint) const {
  if (const std::string why = target_.misfit(target, tokenizer_fingerprint); !why.empty()) {
    throw Error(ErrorKind::kBadArgument, "judge head " + path_ + " does not fit: " + why);
  }
}

std::shared_ptr<const LinearJudge> load_judge(const std::string& verify,
                                              const MethodOptions& options) {
  const auto path = options.find("judge.head");
  if (verify != "judge" || path == options.end() || path->second.empty()) return nullptr;
  return LinearJudge::load(*open_checkpoint(path->second));
}

}  // namespace forerun
