#include "backend/simulated.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "backend/cpu_fixture.h"
#include "base/error.h"

namespace forerun {
namespace {

using test::random_floats;
using test::RandomMatrix;

TEST(SimulatedDevice, BooksTheLongerOfReadingAndComputing) {
  DeviceSpec spec;
  spec.memory_gbs = 100.0;
  spec.compute_gflops = 1000.0;
  spec.operation_us = 20.0;
  spec.link_gbs = 10.0;
  spec.link_us = 50.0;
  EXPECT_DOUBLE_EQ(spec.operation_ms(100'000'000, 1000), 0.02 + 1.0);
  EXPECT_DOUBLE_EQ(spec.operation_ms(1000, 3'000'000'000), 0.02 + 3.0);
  EXPECT_DOUBLE_EQ(spec.copy_ms(20'000'000), 0.05 + 2.0);
}

TEST(SimulatedDevice, ComputesWhatItsInnerBackEndDoes) {
  auto device = std::make_shared<SimulatedDevice>();
  const auto simulated = make_simulated_backend(make_cpu_backend(1), device);
  const auto plain = make_cpu_backend(1);
  const RandomMatrix matrix(DType::kF32, 32, 48, 1);
  std::vector<float> x = random_floats(3 * 48, 3), got(3 * 32), want(3 * 32);
  const auto run = [&](Backend& backend, std::vector<float>& out) {
    const auto weight = backend.pack(matrix.host);
    const LinearTask tasks[] = {{weight.get(), nullptr, {out.data(), 3, 32}}};
    backend.linear({x.data(), 3, 48}, tasks);
  };
  run(*simulated, got);
  run(*plain, want);
  EXPECT_TRUE(test::same_bits(got.data(), want.data(), got.size()));
  EXPECT_EQ(device->operations, 1);
  EXPECT_DOUBLE_EQ(device->busy_ms, device->spec.operation_ms(4 * 48 * 32, 2 * 3 * 48 * 32));
  EXPECT_EQ(simulated->name(), "cuda:0");
  EXPECT_FALSE(simulated->host_visible());
}

TEST(SimulatedDevice, HalfFloatsTakeHalfTheLink) {
  auto device = std::make_shared<SimulatedDevice>();
  const auto simulated = make_simulated_backend(make_cpu_backend(1), device);
  std::vector<float> there = random_floats(40, 7), back(40);
  const std::vector<float> before = there;
  there[0] = 1e9F;
  there[1] = -1e9F;
  there[2] = std::nanf("");
  std::vector<uint16_t> halves(40);
  simulated->download_halves(halves, there.data());
  EXPECT_EQ(device->copied, 80);
  EXPECT_DOUBLE_EQ(device->busy_ms, device->spec.copy_ms(80));
  EXPECT_EQ(halves[0], 0x7BFF);  // the largest, 65504
  EXPECT_EQ(halves[1], 0xFBFF);
  simulated->upload_halves(back.data(), halves);
  EXPECT_EQ(device->copied, 160);
  EXPECT_EQ(back[0], 65504.0F);
  EXPECT_TRUE(std::isnan(back[2]));
  for (size_t i = 3; i < 40; ++i) {
    EXPECT_LE(std::abs(back[i] - before[i]), std::abs(before[i]) / 2048.0F + 1e-7F) << i;
  }
  simulated->upload(back.data(), before.data(), 40);
  EXPECT_EQ(device->copied, 200);
}

TEST(SimulatedDevice, FailsFromTheGivenOperationUntilItIsMended) {
  auto device = std::make_shared<SimulatedDevice>();
  const auto simulated = make_simulated_backend(make_cpu_backend(1), device);
  std::vector<float> x(4), y(4, 1.0F);
  const auto add = [&] { simulated->add({x.data(), 1, 4}, {y.data(), 1, 4}); };
  device->fails_at = 1;
  add();
  for (int i = 0; i < 2; ++i) {
    try {
      add();
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kDevice);
      EXPECT_NE(std::string(error.what()).find("cuda:0"), std::string::npos);
      EXPECT_NE(std::string(error.what()).find("(add)"), std::string::npos);
    }
  }
  float host[4];
  EXPECT_THROW(simulated->download(host, x.data(), 16), Error);
  EXPECT_EQ(x[0], 1.0F);
  device->fails_at = -1;
  add();
  EXPECT_EQ(x[0], 2.0F);
}

TEST(SimulatedDevice, IsDescribedByText) {
  const DeviceSpec spec = parse_device_spec(
      "cuda:1", "bandwidth=448,compute=11000,launch=3,link=6.5,latency=12,memory=3G");
  EXPECT_EQ(spec.name, "cuda:1");
  EXPECT_EQ(spec.memory_gbs, 448.0);
  EXPECT_EQ(spec.compute_gflops, 11000.0);
  EXPECT_EQ(spec.operation_us, 3.0);
  EXPECT_EQ(spec.link_gbs, 6.5);
  EXPECT_EQ(spec.link_us, 12.0);
  EXPECT_EQ(spec.memory_bytes, int64_t{3} << 30);
  EXPECT_EQ(parse_device_spec("cuda:0", "").memory_gbs, DeviceSpec{}.memory_gbs);
  EXPECT_THROW(parse_device_spec("cuda:0", "speed=3"), Error);
  EXPECT_THROW(parse_device_spec("cuda:0", "bandwidth"), Error);
  EXPECT_THROW(parse_device_spec("cuda:0", "bandwidth=-1"), Error);
}

}  // namespace
}  // namespace forerun
