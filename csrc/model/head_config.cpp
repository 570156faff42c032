#include "model/head_config.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "io/file_error.h"
#include "model/fields.h"

namespace forerun {
namespace {

constexpr const char* kPrefix = "forerun.draft.";
constexpr int32_t kFormat = 1;
constexpr int32_t kMaxBlocks = 6;
constexpr size_t kMaxTaps = 8;
constexpr int32_t kMaxStacks = 8;
constexpr int32_t kMaxSpan = 4;

constexpr std::pair<const char*, HeadFamily> kFamilies[] = {
    {"dgf", HeadFamily::kDgf},         {"eagle", HeadFamily::kEagle},
    {"eagle3", HeadFamily::kEagle3},   {"medusa", HeadFamily::kMedusa},
    {"hydra", HeadFamily::kHydra},     {"kangaroo", HeadFamily::kKangaroo},
    {"chimera", HeadFamily::kChimera}, {"falcon", HeadFamily::kFalcon}};

HeadFamily family_of(const Checkpoint& file) {
  const std::string& name = file.text(std::string(kPrefix) + "family");
  std::string known;
  for (const auto& [text, family] : kFamilies) {
    if (name == text) return family;
    known += std::string(known.empty() ? "" : ", ") + text;
  }
  throw Error(ErrorKind::kUnsupported, file.path() + ": a draft of the family " + in_quotes(name) +
                                           ", this build has " + known);
}

void read_taps(const Fields& f, HeadConfig& c) {
  const std::vector<int64_t> taps = f.integers("taps");
  if (taps.empty() || taps.size() > kMaxTaps) {
    f.fail("taps", "has " + std::to_string(taps.size()) + " entries, expected 1 to " +
                       std::to_string(kMaxTaps));
  }
  for (const int64_t tap : taps) {
    if (tap < -1 || tap >= c.target.layers) {
      f.fail("taps", "holds " + std::to_string(tap) + ", expected -1 or a layer of a target of " +
                         std::to_string(c.target.layers) + " layers");
    }
    c.taps.push_back(static_cast<int32_t>(tap));
  }
  if (c.family == HeadFamily::kKangaroo) {
    if (c.taps.size() != 1 || c.taps[0] < 1) {
      f.fail("taps", "is not one layer from 1 on, behind which this family leaves the target");
    }
  } else if (c.family != HeadFamily::kEagle3 && c.taps != std::vector<int32_t>{-1}) {
    f.fail("taps", "is not [-1]: this family reads the hidden state after the final norm");
  }
}

// Medusa and Hydra: as many stacks as there are tensors of them, and a block over the text or none.
void read_stacks(const Checkpoint& file, HeadConfig& c) {
  const std::string name = c.family == HeadFamily::kMedusa ? "medusa." : "hydra.";
  const std::string first = c.family == HeadFamily::kMedusa ? ".block.0.weight" : ".in.weight";
  while (file.find_tensor(name + std::to_string(c.stacks) + first) != nullptr) ++c.stacks;
  if (c.stacks < 1 || c.stacks > kMaxStacks) {
    throw Error(ErrorKind::kBadFile, file.path() + ": has " + std::to_string(c.stacks) +
                                         " stacks '" + name + "k" + first + "', expected 1 to " +
                                         std::to_string(kMaxStacks));
  }
}

int32_t most_blocks(HeadFamily family) {
  if (family == HeadFamily::kMedusa) return 0;
  const bool one = family == HeadFamily::kHydra || family == HeadFamily::kChimera ||
                   family == HeadFamily::kFalcon;
  return one ? 1 : kMaxBlocks;
}

void read_shape(const Fields& f, HeadConfig& c) {
  BlockShape& s = c.shape;
  s.width = f.count("width", 1, kMaxWidth);
  c.blocks = f.count("blocks", c.by_depth() ? 0 : 1, most_blocks(c.family), 0);
  if (c.blocks == 0) {
    s.heads = s.kv_heads = 1;  // of a cache that stays empty
    s.head_dim = s.rotary = c.rope.rotary = 2;
    return;
  }
  s.ffn_width = f.count("ffn_width", c.family == HeadFamily::kKangaroo ? 0 : 1, kMaxWidth);
  s.heads = f.count("heads", 1, kMaxWidth);
  s.kv_heads = f.count("kv_heads", 1, s.heads);
  s.head_dim = f.count("head_dim", 2, 1024);
  if (s.heads % s.kv_heads != 0) f.fail("kv_heads", "does not divide heads");
  if (s.head_dim % 2 != 0) f.fail("head_dim", "is odd, but the halves of a head are rotated");
  if (int64_t{s.heads} * s.head_dim > kMaxWidth) f.fail("heads", "times head_dim is too large");
  s.rotary = s.head_dim;
  s.norm_epsilon = f.number("norm_epsilon", 0.0, 1.0, 1e-5);
  c.rope.base = f.number("rope_base", 1.0, 1e12, 10000.0);
  c.rope.rotary = s.head_dim;
}

// The target's tokens of the head's rows, and how many rows there are.
void read_columns(const Checkpoint& file, HeadConfig& c) {
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorKind::kBadFile, file.path() + ": tensor 'draft_tokens' " + why);
  };
  c.columns = c.target.vocab;
  const TensorSource* tensor = file.find_tensor("draft_tokens");
  if (tensor == nullptr) return;
  if (tensor->dtype != DType::kI32 || tensor->shape.size() != 1 || tensor->shape[0] < 1 ||
      tensor->shape[0] > c.target.vocab) {
    fail("is not a list of 1 to " + std::to_string(c.target.vocab) + " I32 token ids");
  }
  c.columns = static_cast<int32_t>(tensor->shape[0]);
  c.tokens.resize(static_cast<size_t>(c.columns));
  std::memcpy(c.tokens.data(), tensor->bytes.data(), c.tokens.size() * sizeof(int32_t));
  for (size_t i = 0; i < c.tokens.size(); ++i) {
    if (c.tokens[i] < 0 || c.tokens[i] >= c.target.vocab) {
      fail("holds " + std::to_string(c.tokens[i]) + ", which is not a token of the target");
    }
    if (i > 0 && c.tokens[i] <= c.tokens[i - 1]) fail("does not ascend");
  }
}

}  // namespace

HeadConfig read_head_config(const Checkpoint& file) {
  if (file.text("general.architecture", "") != "forerun-draft") {
    throw Error(ErrorKind::kBadFile,
                file.path() + ": general.architecture is " +
                    in_quotes(file.text("general.architecture", "")) +
                    ", expected 'forerun-draft'; `forerun convert-draft` makes such a file");
  }
  const Fields f(file, kPrefix);
  if (const int64_t format = file.integer(std::string(kPrefix) + "format"); format != kFormat) {
    throw Error(ErrorKind::kUnsupported, file.path() + ": draft format " + std::to_string(format) +
                                             ", this build reads " + std::to_string(kFormat));
  }
  HeadConfig c;
  c.family = family_of(file);
  c.target = MadeFor::read(f);
  read_taps(f, c);
  if (c.family == HeadFamily::kMedusa || c.family == HeadFamily::kHydra) read_stacks(file, c);
  read_shape(f, c);
  if (c.family == HeadFamily::kFalcon) c.span = f.count("span", 2, kMaxSpan);
  c.norm_before_residual = f.flag("norm_before_residual", false);
  c.own_head = file.find_tensor("head.weight") != nullptr;
  const bool reads_itself = c.family != HeadFamily::kEagle3;  // its output where a feature was
  if ((reads_itself || !c.own_head) && c.shape.width != c.target.width) {
    f.fail("width", "is " + std::to_string(c.shape.width) + ", expected the target's " +
                        std::to_string(c.target.width) +
                        (reads_itself ? ", which this family needs"
                                      : ", since the target's own head is used"));
  }
  read_columns(file, c);
  return c;
}

}  // namespace forerun
