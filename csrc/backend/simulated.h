#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "backend/backend.h"

namespace forerun {

// How fast a device is. An operation takes its launch and then whatever is longer, reading its
// bytes or computing (the roofline); a copy takes its latency and its bytes.
struct DeviceSpec {
  std::string name = "cuda:0";
  double memory_gbs = 400.0;       // of weights, keys and values
  double compute_gflops = 8000.0;  // multiplications and additions in fp32
  double operation_us = 5.0;       // launch
  double link_gbs = 12.0;          // between host and device
  double link_us = 10.0;
  int64_t memory_bytes = int64_t{8} << 30;

  double operation_ms(int64_t bytes, int64_t operations) const;
  double copy_ms(int64_t bytes) const;
};

// "memory=8GiB,bandwidth=448,compute=11000,launch=5,link=12,latency=10" (GB/s, GFLOP/s, us) on top
// of the defaults; "" is all defaults. Error(kBadArgument) for an unknown or a wrong value.
DeviceSpec parse_device_spec(const std::string& device, const std::string& text);

// What a test sees and steers of a simulated device.
struct SimulatedDevice {
  DeviceSpec spec;
  std::atomic<double> busy_ms{0.0};    // virtual time that its work has taken
  std::atomic<int64_t> operations{0};  // begun
  std::atomic<int64_t> copied{0};      // bytes that crossed its link, both ways
  std::atomic<int64_t> fails_at{-1};   // from this operation on every one fails; -1: none
  // Called before every operation with its number: a delay, an order of events.
  std::function<void(int64_t operation)> before;
};

// A back end that computes what `inner` does and books the time that `device` would take. Nothing
// sleeps: time is virtual. When it fails, Error(kDevice) names the device and the operation, and
// nothing is computed.
std::unique_ptr<Backend> make_simulated_backend(std::unique_ptr<Backend> inner,
                                                std::shared_ptr<SimulatedDevice> device);

}  // namespace forerun
