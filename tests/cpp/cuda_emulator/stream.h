#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

// Streams do nothing until somebody waits: work that the host relies on without a wait shows.
// Events and graphs are lists of the same work.
namespace forerun::emulated {

using Work = std::function<void()>;

// All calls of the runtime API hold it: the emulated GPU runs one kernel at a time.
class DeviceLock {
 public:
  DeviceLock();
  ~DeviceLock();
  DeviceLock(const DeviceLock&) = delete;
  DeviceLock& operator=(const DeviceLock&) = delete;
};

struct Graph {
  std::vector<Work> nodes;
};

struct Stream {
  std::vector<Work> queue;
  std::shared_ptr<Graph> capture;  // where work goes while the stream is captured
  bool broken_capture = false;     // by something that a graph cannot hold
};

struct Event {
  Stream* stream = nullptr;  // of the latest record
  int64_t recorded = 0, reached = 0;
  double milliseconds = 0.0;  // when it was reached
};

Stream* make_stream();
void destroy_stream(Stream* stream);  // what it holds is done first
bool any_capture();                   // is some stream being captured
void put(Stream& stream, Work work);
void record(Event& event, Stream& stream);
void wait_for(Stream& stream, Event& event);  // in the order of the stream
void finish(Stream& stream);
void finish(Event& event);
void finish_all();
Stream& legacy_stream();

}  // namespace forerun::emulated
