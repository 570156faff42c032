// Every operation of the CUDA back end against the CPU back end. The quantised products share the
// integers of the CPU and differ in the order of fp32 additions only, as do norms and attention:
// 2e-6 of the vector's norm.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "backend/cuda/fixture.h"
#include "base/error.h"

namespace forerun::cuda_test {
namespace {

constexpr double kTolerance = 2e-6;

std::vector<float> linear(Backend& backend, const FileMatrix& matrix, const std::vector<float>& x,
                          int64_t rows, const std::vector<float>& bias) {
  const auto weight = backend.pack(matrix.host());
  const Rows in(backend, x, rows), out(backend, rows, matrix.rows);
  const Rows bias_rows(backend, bias.empty() ? std::vector<float>(1) : bias, 1);
  const LinearTask task{weight.get(), bias.empty() ? nullptr : bias_rows.tensor.data, out.tensor};
  backend.linear(in.tensor, {&task, 1});
  return out.values();
}

TEST_F(Cuda, LinearMatchesTheCpuForEveryTypeOfWeight) {
  for (const DType dtype : kWeightTypes) {
    for (const int64_t cols : {int64_t{256}, int64_t{emulated() ? 2304 : 2816}, int64_t{576}}) {
      if (cols % dtype_info(dtype).block != 0) continue;
      const int64_t outputs = emulated() ? 41 : 75;
      const FileMatrix matrix = random_matrix(dtype, outputs, cols, 5);
      for (const int64_t rows : {1, 3, 17, 64, 130}) {
        if (emulated() && rows > 17 && cols > 256) continue;
        const std::vector<float> x = random_floats(rows * cols, 17);
        const std::vector<float> bias =
            rows == 3 ? random_floats(outputs, 2) : std::vector<float>();
        const double error = relative_error(linear(gpu(), matrix, x, rows, bias),
                                            linear(cpu(), matrix, x, rows, bias));
        EXPECT_LT(error, kTolerance)
            << dtype_info(dtype).name << " " << cols << " inputs, " << rows << " rows";
      }
    }
  }
}

TEST_F(Cuda, HalfFloatsCrossAsOnTheCpu) {
  std::vector<float> values = random_floats(700, 3);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] *= std::exp2(static_cast<float>(i % 60) - 35.0F);
  values[0] = 1e6F, values[1] = -65519.0F, values[2] = -65520.0F, values[3] = -1e30F;
  const auto there_and_back = [&](Backend& backend) {
    const Rows from(backend, values, 1), to(backend, 1, 700);
    std::vector<uint16_t> halves(700);
    backend.download_halves(halves, from.tensor.data);
    backend.upload_halves(to.tensor.data, halves);
    std::vector<float> out = to.values();
    out.insert(out.end(), halves.begin(), halves.end());
    return out;
  };
  EXPECT_EQ(there_and_back(gpu()), there_and_back(cpu()));
}

// The oracle here is dequantised arithmetic in double: the error is that of int8 activations.
TEST_F(Cuda, LinearIsTheProductOfTheDequantisedMatrix) {
  for (const DType dtype : kWeightTypes) {
    const FileMatrix matrix = random_matrix(dtype, 48, 1024, 23);
    const std::vector<float> x = random_floats(5 * 1024, 29);
    std::vector<float> wanted;
    for (int row = 0; row < 5; ++row) {
      for (int output = 0; output < 48; ++output) {
        const std::vector<float> w = matrix.row(output);
        double sum = 0.0;
        for (size_t i = 0; i < w.size(); ++i)
          sum += static_cast<double>(w[i]) * x[static_cast<size_t>(row) * 1024 + i];
        wanted.push_back(static_cast<float>(sum));
      }
    }
    EXPECT_LT(relative_error(linear(gpu(), matrix, x, 5, {}), wanted),
              is_quantized(dtype) ? 0.02 : 1e-6)
        << dtype_info(dtype).name;
  }
}

TEST_F(Cuda, LinearRowBitsDoNotDependOnTheOtherRows) {
  for (const DType dtype : kWeightTypes) {
    const int64_t cols = emulated() ? 1280 : 2560;
    const int32_t most = emulated() ? 65 : 200;
    const FileMatrix matrix = random_matrix(dtype, emulated() ? 22 : 150, cols, 41);
    const auto weight = gpu().pack(matrix.host());
    const Rows x(gpu(), random_floats(most * cols, 43), most);
    const auto run = [&](int32_t from, int32_t rows) {
      const Rows out(gpu(), rows, matrix.rows);
      const LinearTask task{weight.get(), nullptr, out.tensor};
      gpu().linear(Tensor(x.tensor.row(from), rows, static_cast<int32_t>(cols)), {&task, 1});
      return out.values();
    };
    std::map<int32_t, std::vector<float>> alone;
    for (int32_t row = 0; row < most; row += emulated() ? 1 + row / 2 : 1) alone[row] = run(row, 1);
    for (int32_t rows = 2; rows <= most; rows += rows < 65 ? 1 : 27) {
      // A block takes up to 8, 16, 32 or 64 rows.
      if (emulated() && rows != 3 && rows != 9 && rows != 17 && rows != 33 && rows != 65) continue;
      const std::vector<float> together = run(0, rows);
      for (const auto& [row, wanted] : alone) {
        if (row >= rows) break;
        const auto found = together.begin() + int64_t{row} * matrix.rows;
        ASSERT_TRUE(same_bits({found, found + matrix.rows}, wanted))
            << dtype_info(dtype).name << " " << rows << " rows, row " << row;
      }
    }
  }
}

// Enough outputs for the kernel that shares the activations of 128 outputs; in two tasks, the first
// not a whole panel.
TEST_F(Cuda, LinearRowBitsAreTheSameForManyOutputs) {
  for (const DType dtype : kWeightTypes) {
    if (!is_quantized(dtype)) continue;
    const int64_t cols = emulated() ? 2304 : 2560;
    const FileMatrix first = random_matrix(dtype, 88, cols, 45),
                     second = random_matrix(dtype, emulated() ? 72 : 17100, cols, 46);
    const auto first_weight = gpu().pack(first.host()), second_weight = gpu().pack(second.host());
    const Rows x(gpu(), random_floats(150 * cols, 47), 150);
    const auto run = [&](int32_t from, int32_t rows) {
      const Rows a(gpu(), rows, first.rows), b(gpu(), rows, second.rows);
      const LinearTask tasks[] = {{first_weight.get(), nullptr, a.tensor},
                                  {second_weight.get(), nullptr, b.tensor}};
      gpu().linear(Tensor(x.tensor.row(from), rows, static_cast<int32_t>(cols)), tasks);
      std::vector<float> out = a.values();
      const std::vector<float> more = b.values();
      out.insert(out.end(), more.begin(), more.end());
      return out;
    };
    const auto row_of = [&](const std::vector<float>& out, int32_t rows, int32_t row) {
      std::vector<float> one(out.begin() + row * first.rows, out.begin() + (row + 1) * first.rows);
      const auto rest = out.begin() + rows * first.rows + row * second.rows;
      one.insert(one.end(), rest, rest + second.rows);
      return one;
    };
    std::map<int32_t, std::vector<float>> alone;
    for (const int32_t row : {0, 5, 8, 16, 31, 64, 149}) {
      if (!emulated() || row < 65) alone[row] = run(row, 1);
    }
    for (const int32_t rows : {9, 16, 17, 32, 33, 64, 65, 150}) {
      if (emulated() && rows != 9 && rows != 17 && rows != 65) continue;
      const std::vector<float> together = run(0, rows);
      for (const auto& [row, wanted] : alone) {
        if (row >= rows) break;
        ASSERT_TRUE(same_bits(row_of(together, rows, row), wanted))
            << dtype_info(dtype).name << " " << rows << " rows, row " << row;
      }
    }
  }
}

TEST_F(Cuda, TasksOfDifferentTypesShareOneCall) {
  const std::vector<float> x = random_floats(6 * 512, 51);
  std::vector<FileMatrix> matrices;
  std::vector<std::unique_ptr<Weight>> weights;
  std::vector<Rows> outs;
  for (int i = 0; i < 13; ++i) {
    matrices.push_back(
        random_matrix(kWeightTypes[i % 11], 20 + 9 * i, 512, static_cast<uint32_t>(i)));
    weights.push_back(gpu().pack(matrices.back().host()));
    outs.emplace_back(gpu(), 6, 20 + 9 * i);
  }
  std::vector<LinearTask> tasks;
  for (size_t i = 0; i < weights.size(); ++i)
    tasks.push_back({weights[i].get(), nullptr, outs[i].tensor});
  const Rows in(gpu(), x, 6);
  gpu().linear(in.tensor, tasks);
  for (size_t i = 0; i < weights.size(); ++i) {
    EXPECT_TRUE(same_bits(outs[i].values(), linear(gpu(), matrices[i], x, 6, {}))) << "task " << i;
  }
}

TEST_F(Cuda, ActivationsThatAreNotFiniteSpoilTheirRowOnly) {
  const FileMatrix matrix = random_matrix(DType::kQ4_K, 16, 512, 3);
  std::vector<float> x = random_floats(2 * 512, 4);
  x[7] = std::numeric_limits<float>::infinity();
  const std::vector<float> out = linear(gpu(), matrix, x, 2, {});
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_TRUE(std::isfinite(out[16]));
}

template <typename Operation>
void compare(Backend& gpu, Backend& cpu, const std::vector<float>& x, int64_t rows,
             const Operation& operation, double tolerance = kTolerance) {
  const Rows on_gpu(gpu, x, rows), on_cpu(cpu, x, rows);
  operation(gpu, on_gpu.tensor);
  operation(cpu, on_cpu.tensor);
  EXPECT_LE(relative_error(on_gpu.values(), on_cpu.values()), tolerance);
}

TEST_F(Cuda, NormsMatchTheCpu) {
  for (const int64_t width : {64, 100, 576, 4096}) {
    const std::vector<float> x = random_floats(5 * width * 3, 61),
                             weight = random_floats(3 * width, 62);
    compare(gpu(), cpu(), x, 5, [&](Backend& backend, Tensor t) {
      const Rows w(backend, weight, 1);
      backend.rms_norm(t, w.tensor.data, 1e-5F, t);
    });
    compare(gpu(), cpu(), x, 5, [&](Backend& backend, Tensor t) {
      const Rows w(backend, weight, 1);
      backend.head_norm(t, 3, w.tensor.data, 1e-6F);
    });
  }
}

TEST_F(Cuda, RotationMatchesTheCpuInBothPairings) {
  std::vector<float> angles;
  for (int row = 0; row < 4; ++row) {
    for (int i = 0; i < 48; ++i) {
      const double angle = 0.1 * row * (i % 24 + 1);
      angles.push_back(static_cast<float>(i < 24 ? std::cos(angle) : std::sin(angle)));
    }
  }
  for (const bool interleaved : {false, true}) {
    for (const int64_t head_dim : {48, 64}) {
      compare(gpu(), cpu(), random_floats(4 * 5 * head_dim, 71), 4,
              [&](Backend& backend, Tensor t) {
                const Rows cos_sin(backend, angles, 4);
                backend.rope(t, 5, cos_sin.tensor, interleaved);
              });
    }
  }
}

TEST_F(Cuda, ElementwiseOperationsMatchTheCpu) {
  const std::vector<float> up = random_floats(7 * 300, 81, 4.0F),
                           gate = random_floats(7 * 300, 82, 4.0F);
  compare(gpu(), cpu(), gate, 7, [&](Backend& backend, Tensor t) {
    const Rows other(backend, up, 7);
    backend.swiglu(t, other.tensor, t);
  });
  const std::vector<float> third = random_floats(7 * 300, 83, 4.0F);
  compare(gpu(), cpu(), gate, 7, [&](Backend& backend, Tensor t) {
    const Rows a(backend, up, 7), b(backend, third, 7);
    backend.blend(t, a.tensor, b.tensor, t);
  });
  compare(
      gpu(), cpu(), gate, 7,
      [&](Backend& backend, Tensor t) {
        const Rows other(backend, up, 7);
        backend.add(t, other.tensor);
      },
      0.0);
  compare(
      gpu(), cpu(), gate, 7,
      [&](Backend& backend, Tensor t) {
        const Rows other(backend, up, 7);
        const std::vector<int32_t> rows = {6, 0, 3, 3};
        backend.gather_rows(other.tensor, rows, t.first_rows(4));
      },
      0.0);
}

TEST_F(Cuda, TopKMatchesASortWithTiesToTheLowestId) {
  for (const int64_t cols : {7, 2048, 2049, 5000, 50257}) {
    if (emulated() && cols > 5000) continue;
    std::vector<float> x = random_floats(3 * cols, 91);
    for (float& value : x) value = std::round(value * 50.0F) / 50.0F;  // many ties
    x[3] = __builtin_nanf("");
    x[static_cast<size_t>(cols) + 5] = std::numeric_limits<float>::infinity();
    const Rows rows(gpu(), x, 3);
    for (const int32_t k : {1, 5, 40, 1024}) {  // 1024 of 5000 in three passes
      if (k > cols || (emulated() && k > 5 && cols < 2049)) continue;
      std::vector<int32_t> ids(static_cast<size_t>(3 * k));
      std::vector<float> values(ids.size());
      gpu().top_k(rows.tensor, k, ids, values);
      for (int64_t row = 0; row < 3; ++row) {
        const float* at = x.data() + row * cols;
        std::vector<int32_t> order(static_cast<size_t>(cols));
        for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
        const auto value = [&](int32_t id) { return std::isnan(at[id]) ? -INFINITY : at[id]; };
        std::stable_sort(order.begin(), order.end(),
                         [&](int32_t a, int32_t b) { return value(a) > value(b); });
        for (int32_t i = 0; i < k; ++i) {
          ASSERT_EQ(ids[static_cast<size_t>(row * k + i)], order[static_cast<size_t>(i)])
              << cols << " " << k << " " << i;
          ASSERT_EQ(values[static_cast<size_t>(row * k + i)], value(order[static_cast<size_t>(i)]));
        }
      }
    }
  }
}

TEST_F(Cuda, MemoryIsZeroedAndKeepsWhatIsUploaded) {
  for (const int64_t count : {3, 100000, 3000000}) {
    const Buffer buffer = gpu().allocate(count * 4);
    std::vector<float> host(static_cast<size_t>(count), 1.0F);
    gpu().download(host.data(), buffer.data(), count * 4);
    EXPECT_TRUE(same_bits(host, std::vector<float>(host.size(), 0.0F)));
    const std::vector<float> sent = random_floats(count, 13);
    gpu().upload(buffer.data(), sent.data(), count * 4);
    gpu().download(host.data(), buffer.data(), count * 4);
    EXPECT_TRUE(same_bits(host, sent));
  }
}

TEST_F(Cuda, FailuresAreErrorsThatNameTheirCause) {
  try {
    gpu().allocate(int64_t{1} << 50);
    FAIL() << "a petabyte was allocated";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("1125899906842624 bytes"), std::string::npos)
        << error.what();
  }
  const std::vector<std::byte> bytes(64);
  EXPECT_THROW(gpu().pack({DType::kI32, 2, 8, bytes.data()}), Error);
  EXPECT_THROW(gpu().pack({DType::kQ4_K, 1, 100, bytes.data()}), Error);
  EXPECT_THROW(make_cuda_backend(4096), Error);
}

}  // namespace
}  // namespace forerun::cuda_test
