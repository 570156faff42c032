#include "backend/cuda/linear_quantized.cuh"

namespace forerun::cuda {

// Types in superblocks of 256.
template void linear_of<DType::kQ4_K>(const QuantizedRows&, const MatrixTasks&, cudaStream_t);
template void linear_of<DType::kQ5_K>(const QuantizedRows&, const MatrixTasks&, cudaStream_t);
template void linear_of<DType::kQ6_K>(const QuantizedRows&, const MatrixTasks&, cudaStream_t);

}  // namespace forerun::cuda
