#pragma once

#include <cstdint>
#include <span>

namespace forerun {

// What the target computed at the nodes of a tree: row i belongs to node i. Host memory.
struct NodeLogits {
  const float* data = nullptr;  // [nodes, vocab]
  int64_t stride = 0;
  int32_t vocab = 0;
  const float* hidden = nullptr;  // [nodes, width] after the final norm; null when nobody asked
  int64_t hidden_stride = 0;
  int32_t width = 0;
  // [nodes] the target's own token after each node, where its back end has chosen it; there is
  // nothing else then.
  const int32_t* chosen = nullptr;

  // On to the nodes of the next tree of the forward.
  void skip(int32_t nodes) {
    if (data != nullptr) data += nodes * stride;
    if (hidden != nullptr) hidden += nodes * hidden_stride;
    if (chosen != nullptr) chosen += nodes;
  }
  std::span<const float> row(int32_t node) const {
    return {data + node * stride, static_cast<size_t>(vocab)};
  }
  std::span<const float> hidden_row(int32_t node) const {
    return {hidden + node * hidden_stride, static_cast<size_t>(width)};
  }
};

}  // namespace forerun
