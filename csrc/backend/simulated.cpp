#include "backend/simulated.h"

#include <algorithm>
#include <utility>

#include "backend/decorated.h"
#include "base/settings.h"

namespace forerun {
namespace {

class SimulatedBackend final : public DecoratedBackend {
 public:
  SimulatedBackend(std::unique_ptr<Backend> inner, std::shared_ptr<SimulatedDevice> device)
      : DecoratedBackend(std::move(inner)), device_(std::move(device)) {}

  std::string name() const override { return device_->spec.name; }
  std::string description() const override { return "simulated " + device_->spec.name; }
  bool host_visible() const override { return false; }

 private:
  void around(const Work& work, Call call) override {
    begin(work.name);
    spend(device_->spec.operation_ms(work.bytes, work.operations));
    call();
  }
  void around_copy(int64_t bytes, Call call) override {
    begin("copy");
    spend(device_->spec.copy_ms(bytes));
    device_->copied += bytes;
    call();
  }
  void begin(const char* what) {
    const int64_t number = device_->operations.fetch_add(1);
    if (device_->before) device_->before(number);
    const int64_t fails_at = device_->fails_at;
    if (fails_at >= 0 && number >= fails_at) {
      throw Error(ErrorKind::kDevice, device_->spec.name + ": the device failed in operation " +
                                          std::to_string(number) + " (" + what + ")");
    }
  }
  void spend(double ms) { device_->busy_ms = device_->busy_ms + ms; }

  std::shared_ptr<SimulatedDevice> device_;
};

}  // namespace

double DeviceSpec::operation_ms(int64_t bytes, int64_t operations) const {
  const double read_ms = static_cast<double>(bytes) / (memory_gbs * 1e6);
  const double compute_ms = static_cast<double>(operations) / (compute_gflops * 1e6);
  return operation_us * 1e-3 + std::max(read_ms, compute_ms);
}

double DeviceSpec::copy_ms(int64_t bytes) const {
  return link_us * 1e-3 + static_cast<double>(bytes) / (link_gbs * 1e6);
}

DeviceSpec parse_device_spec(const std::string& device, const std::string& text) {
  MethodOptions given;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string pair = text.substr(at, end - at);
    const size_t equals = pair.find('=');
    if (equals == std::string::npos) {
      throw Error(ErrorKind::kBadArgument,
                  "simulated device '" + pair + "', expected such as bandwidth=448");
    }
    given[device + "." + pair.substr(0, equals)] = pair.substr(equals + 1);
    at = end + 1;
  }
  DeviceSpec spec;
  spec.name = device;
  Settings settings(device, given);
  constexpr double kMost = 1e9;
  spec.memory_gbs = settings.real("bandwidth", spec.memory_gbs, 1e-3, kMost);
  spec.compute_gflops = settings.real("compute", spec.compute_gflops, 1e-3, kMost);
  spec.operation_us = settings.real("launch", spec.operation_us, 0.0, kMost);
  spec.link_gbs = settings.real("link", spec.link_gbs, 1e-6, kMost);
  spec.link_us = settings.real("latency", spec.link_us, 0.0, kMost);
  spec.memory_bytes = settings.bytes("memory", spec.memory_bytes);
  settings.done();
  return spec;
}

std::unique_ptr<Backend> make_simulated_backend(std::unique_ptr<Backend> inner,
                                                std::shared_ptr<SimulatedDevice> device) {
  return std::make_unique<SimulatedBackend>(std::move(inner), std::move(device));
}

}  // namespace forerun
