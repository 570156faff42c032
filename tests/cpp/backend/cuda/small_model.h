#pragma once

#include "model/tiny_model.h"

namespace forerun::cuda_test {

// Small enough for many steps on an emulated GPU.
inline test::TinyModel small_model(int32_t layers) {
  test::TinyModel model;
  model.dtype = model.head_dtype = DType::kQ8_0;
  model.layers = layers;
  model.width = model.ffn = 64;
  model.heads = 2;
  model.kv_heads = 1;
  model.head_dim = 32;
  return model;
}

}  // namespace forerun::cuda_test
