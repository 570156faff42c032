#pragma once

#include <vector>

#include "io/checkpoint.h"
#include "io/mapped_file.h"

namespace forerun {

// The tensors of one safetensors file, in the order of their data, as views into `file`.
// Layout: u64 header length, a JSON object {name: {dtype, shape, data_offsets}}, the data. As in
// the format's reference reader the tensors must cover the data from end to end, with neither gaps
// nor overlaps. Unlike a GGUF view, a view need not be aligned for its element type.
std::vector<TensorSource> read_safetensors(const MappedFile& file);

}  // namespace forerun
