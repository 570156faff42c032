#include "backend/cuda/linear_quantized.cuh"

namespace forerun::cuda {

// Types in blocks of 32.
template void linear_of<DType::kQ4_0>(const QuantizedRows&, const MatrixTasks&, cudaStream_t);
template void linear_of<DType::kQ4_1>(const QuantizedRows&, const MatrixTasks&, cudaStream_t);
template void linear_of<DType::kQ5_0>(const QuantizedRows&, const MatrixTasks&, cudaStream_t);
template void linear_of<DType::kQ5_1>(const QuantizedRows&, const MatrixTasks&, cudaStream_t);
template void linear_of<DType::kQ8_0>(const QuantizedRows&, const MatrixTasks&, cudaStream_t);

}  // namespace forerun::cuda
