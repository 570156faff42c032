#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "draft/exit_drafter.h"

namespace forerun {

// A small model drafts for the large one; same vocabulary (the engine checks). It has its own KV
// cache on its model's back end and catches up with tokens it has not seen. Rows of guesses that
// came true are kept, unless their node left the model early: the text's rows are in all layers.
// With groups of layers side by side (model/layer_groups.h) they are not kept either: what the text
// gained is read again exactly, in the one forward that opens the next root (EasySpec's
// calibration), so that errors do not add up.
class ModelDrafter final : public ExitDrafter {
 public:
  // context: positions of a sequence. Beyond the draft model's capacity nothing is proposed.
  // A node stops at the exits of the model's file; confidence: ExitPlan's. groups: none for a model
  // with several exits.
  ModelDrafter(std::shared_ptr<const Model> model, std::unique_ptr<TreePolicy> policy,
               int32_t context, double confidence = ExitPlan{}.confidence,
               std::shared_ptr<LevelCosts> costs = nullptr, std::vector<LayerGroup> groups = {});

  std::string name() const override { return "model"; }
  void begin(std::span<const int32_t> context) override { keep_common_prefix(context); }
  void observe(std::span<const int32_t> context, const Observation& truth) override;
  void rewind(std::span<const int32_t> context) override { keep_common_prefix(context); }
  std::unique_ptr<Drafter> fork() const override;

  int32_t cached() const { return cache_.length(); }  // tokens whose rows are committed

 private:
  ModelDrafter(const ModelDrafter& other);
  int32_t room(std::span<const int32_t> context) const override;
  int32_t unread(int32_t context) const override;
  void open_root(std::span<const int32_t> context) override;
  void open_level(std::span<const int32_t> nodes) override { open_nodes(cache_, nodes); }

  void keep_common_prefix(std::span<const int32_t> context);
  void keep_true_guesses(std::span<const int32_t> context);
  void read(std::span<const int32_t> tokens, bool with_root);

  KvCache cache_;
  Batch batch_;
  std::vector<int32_t> tokens_;   // whose rows are committed
  bool rows_in_scratch_ = false;  // of the nodes of grown()
  std::vector<int32_t> path_;
};

}  // namespace forerun
