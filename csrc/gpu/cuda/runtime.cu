// gpu::Runtime of CUDA, and of HIP, whose functions bear the same names behind another prefix.
#include <vector>

#include "../runtime.h"

#if defined(__HIPCC__) || defined(__HIP__)
#define PF_API(name) hip##name
using PfDeviceProperties = hipDeviceProp_t;
#else
#define PF_API(name) cuda##name
using PfDeviceProperties = cudaDeviceProp;
#endif

namespace pf::gpu {

struct Event {
  PF_API(Event_t) handle = nullptr;
};

struct Runtime::Impl {
  int device;
  std::vector<Stream> streams;
  std::vector<std::unique_ptr<Event>> events;

  // The current device is a property of the calling thread.
  void use() const { check(PF_API(SetDevice)(device), "choosing a device"); }
};

int Runtime::device_count() {
  int count = 0;
  return PF_API(GetDeviceCount)(&count) == PF_API(Success) ? count : 0;
}

Runtime::Runtime(int device) : impl_(std::make_unique<Impl>()) {
  impl_->device = device;
  int count = 0;
  check(PF_API(GetDeviceCount)(&count), "looking for devices");
  if (device < 0 || device >= count) {
    throw std::runtime_error("device " + std::to_string(device) + " of " + std::to_string(count) + " was asked for");
  }
  impl_->use();
}

Runtime::~Runtime() {
  for (const auto& event : impl_->events) static_cast<void>(PF_API(EventDestroy)(event->handle));
  for (Stream stream : impl_->streams) static_cast<void>(PF_API(StreamDestroy)(stream));
}

std::string Runtime::describe() const {
  PfDeviceProperties properties;
  check(PF_API(GetDeviceProperties)(&properties, impl_->device), "properties of a device");
  return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
         std::to_string(properties.minor);
}

void* Runtime::allocate(size_t bytes, const char* name) {
  impl_->use();
  void* memory = nullptr;
  check(PF_API(Malloc)(&memory, bytes > 0 ? bytes : 1), name);
  return memory;
}

void Runtime::release(void* memory) { check(PF_API(Free)(memory), "release of memory"); }

Stream Runtime::create_stream() {
  impl_->use();
  Stream stream = nullptr;
  check(PF_API(StreamCreateWithFlags)(&stream, PF_API(StreamNonBlocking)), "a stream");
  impl_->streams.push_back(stream);
  return stream;
}

Event* Runtime::create_event() {
  impl_->use();
  auto event = std::make_unique<Event>();
  check(PF_API(EventCreateWithFlags)(&event->handle, PF_API(EventDisableTiming)), "an event");
  impl_->events.push_back(std::move(event));
  return impl_->events.back().get();
}

void Runtime::copy_in(void* device, const void* host, size_t bytes, Stream stream) {
  check(PF_API(MemcpyAsync)(device, host, bytes, PF_API(MemcpyHostToDevice), stream), "a copy to the device");
}

void Runtime::copy_out(void* host, const void* device, size_t bytes, Stream stream) {
  check(PF_API(MemcpyAsync)(host, device, bytes, PF_API(MemcpyDeviceToHost), stream), "a copy from the device");
}

void Runtime::fill(void* device, int byte, size_t bytes, Stream stream) {
  check(PF_API(MemsetAsync)(device, byte, bytes, stream), "filling memory");
}

void Runtime::record(Event* event, Stream stream) { check(PF_API(EventRecord)(event->handle, stream), "an event"); }
void Runtime::wait(Stream stream, Event* event) {
  check(PF_API(StreamWaitEvent)(stream, event->handle, 0), "waiting for an event");
}
void Runtime::synchronize(Stream stream) { check(PF_API(StreamSynchronize)(stream), "a stream's work"); }

}  // namespace pf::gpu
