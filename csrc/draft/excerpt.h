#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "draft/drafter.h"

namespace forerun {

struct ExcerptOptions {
  int32_t tokens = 1024;  // of the excerpt: chosen chunks and the latest tokens
  int32_t chunk = 64;     // tokens of a chunk
  int32_t recent = 256;   // latest tokens, at least
};

// A drafter that reads an excerpt of a long text, so that a draft model's prefill stays short
// (RAPID, arXiv 2502.20330, its drafting half): the first chunk, the chunks that share most with
// the latest tokens, in the order of the text, and the latest tokens themselves. The target sees
// the whole text and its own sample decides, so the text is the same. Shared runs of two tokens
// count, the rarer in the text the more. The choice stays until the excerpt is full, so that the
// model's rows stay valid; a text that fits is read whole.
class ExcerptDrafter final : public Drafter {
 public:
  // Error(kBadArgument) for sizes that leave no room for a chunk.
  ExcerptDrafter(std::unique_ptr<Drafter> reader, ExcerptOptions options);

  std::string name() const override { return reader_->name(); }
  void begin(std::span<const int32_t> context) override;
  void propose(std::span<const int32_t> context, const Budget& budget, const DraftNoise& noise,
               DraftTree& tree) override;
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override;
  std::unique_ptr<Drafter> fork() const override;
  void finish(std::span<const int32_t> context, std::span<const uint8_t> emitted) override {
    reader_->finish(context, emitted);
  }
  int32_t wanted_topk() const override { return reader_->wanted_topk(); }
  DraftSource source() const override { return reader_->source(); }
  double expected_ms(int32_t nodes) const override { return reader_->expected_ms(nodes); }
  double start_ms(int32_t context) const override {
    return reader_->start_ms(std::min(context, options_.tokens));
  }
  bool draws(const DrawNeed& need) const override { return reader_->draws(need); }

  std::span<const int32_t> excerpt() const { return excerpt_; }

 private:
  // Brings the excerpt to this context; false when other chunks were chosen than before.
  bool follow(std::span<const int32_t> context);
  void choose(std::span<const int32_t> context);

  std::unique_ptr<Drafter> reader_;
  ExcerptOptions options_;
  std::vector<int32_t> excerpt_;
  size_t chosen_ = 0;  // tokens of the excerpt that are chunks
  size_t tail_ = 0;    // where the latest tokens begin in the text
};

}  // namespace forerun
