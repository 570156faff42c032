#include "cuda_emulator/stream.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>

#include "cuda_emulator/memory.h"
#include "cuda_emulator/report.h"

namespace forerun::emulated {
namespace {

std::recursive_mutex& device_mutex() {
  static auto* mutex = new std::recursive_mutex;
  return *mutex;
}

std::vector<Stream*>& streams() {
  static auto* all = new std::vector<Stream*>{new Stream};
  return *all;
}

}  // namespace

DeviceLock::DeviceLock() { device_mutex().lock(); }
DeviceLock::~DeviceLock() { device_mutex().unlock(); }

Stream& legacy_stream() { return *streams().front(); }

Stream* make_stream() {
  streams().push_back(new Stream);
  return streams().back();
}

void destroy_stream(Stream* stream) {
  finish(*stream);
  streams().erase(std::find(streams().begin(), streams().end(), stream));
  delete stream;
}

bool any_capture() {
  return std::any_of(streams().begin(), streams().end(),
                     [](const Stream* stream) { return stream->capture != nullptr; });
}

void put(Stream& stream, Work work) {
  (stream.capture != nullptr ? stream.capture->nodes : stream.queue).push_back(std::move(work));
}

void record(Event& event, Stream& stream) {
  event.stream = &stream;
  const int64_t number = ++event.recorded;
  put(stream, [&event, number] {
    event.reached = number;
    event.milliseconds = std::chrono::duration<double, std::milli>(
                             std::chrono::steady_clock::now().time_since_epoch())
                             .count();
  });
}

void wait_for(Stream& stream, Event& event) {
  const int64_t number = event.recorded;
  put(stream, [&event, number] {
    if (event.reached < number) finish(*event.stream);
  });
}

void finish(Stream& stream) {
  if (stream.queue.empty()) return;
  watch_for_faults();
  const DeviceMemoryOpen open;
  const std::vector<Work> work = std::exchange(stream.queue, {});
  for (const Work& one : work) one();
}

void finish(Event& event) {
  if (event.reached < event.recorded) finish(*event.stream);
}

void finish_all() {
  for (Stream* stream : streams()) finish(*stream);
}

}  // namespace forerun::emulated
