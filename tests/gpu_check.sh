#!/bin/sh
# Builds with CUDA, runs the GPU tests (the small ones again under compute-sanitizer) and the GPU bench, and prints one
# table. Needs a GPU, nvcc, cmake, ninja and GoogleTest; no internet. Usage: tests/gpu_check.sh [build folder]
# FORERUN_CUDA_ARCHS: the architecture to build for; by default the one of the first GPU.
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
build_dir=${1:-$source_dir/build-gpu}
if ! command -v nvcc >/dev/null || ! command -v nvidia-smi >/dev/null; then
  echo "gpu-check: needs nvcc and an NVIDIA GPU; nothing was checked" >&2
  exit 2
fi
archs=${FORERUN_CUDA_ARCHS:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)}

cmake -S "$source_dir" -B "$build_dir" -G Ninja -DCMAKE_BUILD_TYPE=Release -DFORERUN_TESTS=ON -DFORERUN_CUDA=ON \
  -DFORERUN_CUDA_ARCHS="$archs" >/dev/null
cmake --build "$build_dir" --target forerun_cuda forerun_tests cuda_bench

tests=$build_dir/tests/cpp/forerun_tests
"$tests" --gtest_filter='Cuda*' --gtest_brief=1
if command -v compute-sanitizer >/dev/null; then
  compute-sanitizer --tool memcheck --error-exitcode 1 "$tests" --gtest_brief=1 \
    --gtest_filter='Cuda.*:CudaModel.Tree*:-*RowBitsDoNot*:*Failures*'
else
  echo "gpu-check: compute-sanitizer not found, skipped"
fi
"$build_dir/tests/bench/cuda_bench" >"$build_dir/cuda_bench.json"
python3 - "$build_dir/cuda_bench.json" <<'PY'
import json, sys

bench = json.load(open(sys.argv[1]))
print(f"{bench['gpu']}\ncopy bandwidth {bench['copy_gbs']} GB/s (read plus written)")
for entry in bench["linear"]:
    print(f"Q4_K {entry['outputs']} x {entry['inputs']}")
    for rows, value in entry["rows"].items():
        print(f"  {rows:>4} rows {value['us']:9.1f} us  {value['fraction']:5.2f} of bandwidth  {value['ratio']:5.2f} x one row")
for entry in bench["steps"]:
    print(f"{entry['model']}, context {entry['context']}")
    for rows, value in entry["rows"].items():
        print(f"  {rows:>4} rows {value['graph_us']:9.0f} us as a graph, {value['queued_us']:9.0f} us queued  "
              f"{value['fraction']:5.2f} of bandwidth  {value['ratio']:5.2f} x one row")
PY
