// Every kernel, in the order of use; the including file has chosen its simd_*.h.
// clang-format off
#include "backend/cpu/kernels/codes.inl"
#include "backend/cpu/kernels/elementwise.inl"
#include "backend/cpu/kernels/matmul_k.inl"
#include "backend/cpu/kernels/matmul_legacy.inl"
#include "backend/cpu/kernels/matmul_float.inl"
#include "backend/cpu/kernels/quantize.inl"
#include "backend/cpu/kernels/norm.inl"
#include "backend/cpu/kernels/rope.inl"
#include "backend/cpu/kernels/attention.inl"
#include "backend/cpu/kernels/vocabulary.inl"
// clang-format on

namespace forerun {
namespace {

constexpr KernelTable make_table(const char* name) {
  return {.name = name,
          .matmul = {.name = name,
                     .q4_0 = matmul_legacy<CodesQ4_0>,
                     .q4_1 = matmul_legacy<CodesQ4_1>,
                     .q5_0 = matmul_legacy<CodesQ5_0>,
                     .q5_1 = matmul_legacy<CodesQ5_1>,
                     .q8_0 = matmul_legacy<CodesQ8_0>,
                     .q4_k = matmul_k<CodesQ4K>,
                     .q5_k = matmul_k<CodesQ5K>,
                     .q6_k = matmul_k<CodesQ6K>,
                     .f32 = matmul_float<CodesF32>,
                     .f16 = matmul_float<CodesF16>,
                     .bf16 = matmul_float<CodesBF16>},
          .quantize_k = quantize_k,
          .quantize_32 = quantize_32,
          .rms_norm = rms_norm,
          .rope = rope,
          .swiglu = swiglu,
          .add = add_rows,
          .scale = scale_row,
          .to_half = to_half,
          .kv_f32 = {score<FloatCells>, weigh<FloatCells>},
          .kv_f16 = {score<HalfCells>, weigh<HalfCells>},
          .kv_q8_0 = {score_codes, weigh_codes},
          .softmax = softmax,
          .merge = merge,
          .rescale = rescale,
          .divide = divide_row,
          .vocabulary = {.largest = largest,
                         .find_above = find_above,
                         .find_contender = find_contender,
                         .mass = mass},
          .read = read_bytes};
}

}  // namespace
}  // namespace forerun
