// gpu::Runtime of the emulator: one device with one stream, on which everything happens at once.
#include "../runtime.h"

#include <string.h>

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace pf::gpu {

struct Event {};
struct Graph {
  simt::Device::Recording launches;
};

struct Runtime::Impl {
  simt::Device device;
  std::vector<std::unique_ptr<Event>> events;
};

int Runtime::device_count() { return 1; }

Runtime::Runtime(int device) : impl_(std::make_unique<Impl>()) {
  if (device != 0) throw std::runtime_error("the emulator has one device, not number " + std::to_string(device));
  impl_->device.options.guard = true;
}
Runtime::~Runtime() = default;

void Runtime::use() const {}

std::string Runtime::describe() const { return "simt, a GPU emulated on one CPU thread"; }

void Runtime::memory(size_t* free, size_t* total) const {
  std::ifstream file("/proc/meminfo");
  *free = *total = 0;
  for (std::string name, rest; file >> name; std::getline(file, rest)) {
    if (name == "MemTotal:" && file >> *total) *total *= 1024;
    if (name == "MemAvailable:" && file >> *free) *free *= 1024;
  }
  if (*free == 0 || *total == 0) throw std::runtime_error("/proc/meminfo does not tell the host's memory");
}

void* Runtime::allocate(size_t bytes, const char* name) { return impl_->device.allocate(bytes, name); }
void Runtime::release(void* memory) { impl_->device.release(memory); }

void* Runtime::allocate_host(size_t bytes) { return ::operator new(bytes); }
void Runtime::release_host(void* memory) { ::operator delete(memory); }

void Runtime::run_blocks_together(Stream stream) { stream->options.concurrent_blocks = true; }
Stream Runtime::create_stream() { return &impl_->device; }
Event* Runtime::create_event() {
  impl_->events.push_back(std::make_unique<Event>());
  return impl_->events.back().get();
}

void Runtime::copy_in(void* device, const void* host, size_t bytes, Stream stream) {
  stream->write(device, host, bytes);
}
void Runtime::copy_out(void* host, const void* device, size_t bytes, Stream stream) {
  stream->read(host, device, bytes);
}
void Runtime::fill(void* device, int byte, size_t bytes, Stream stream) { stream->fill(device, byte, bytes); }

void Runtime::record(Event*, Stream) {}
void Runtime::wait(Stream, Event*) {}
void Runtime::synchronize(Stream) {}

void Runtime::begin_capture(Stream stream) { stream->start_recording(); }
Graph* Runtime::end_capture(Stream stream) { return new Graph{stream->stop_recording()}; }
void Runtime::launch(const Graph* graph, Stream) {
  for (const auto& launch : graph->launches) launch();
}
void Runtime::destroy(Graph* graph) { delete graph; }

}  // namespace pf::gpu
