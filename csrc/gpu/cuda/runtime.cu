// gpu::Runtime of CUDA, and of HIP, whose functions bear the same names behind another prefix.
#include <vector>

#include "../runtime.h"

#if defined(__HIPCC__) || defined(__HIP__)
#define PF_VENDOR "AMD"
using PfDeviceProperties = hipDeviceProp_t;
#else
#define PF_VENDOR "NVIDIA"
using PfDeviceProperties = cudaDeviceProp;
#endif

namespace pf::gpu {

struct Event {
  PF_API(Event_t) handle = nullptr;
};

struct Graph {
  PF_API(GraphExec_t) handle = nullptr;
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
  const PF_API(Error_t) found = PF_API(GetDeviceCount)(&count);
  if (found != PF_API(Success) || count == 0) {
    throw std::runtime_error(std::string("this machine has no " PF_VENDOR " GPU, or no driver for it: ") +
                             (found == PF_API(Success) ? "no device" : PF_API(GetErrorString)(found)));
  }
  if (device < 0 || device >= count) {
    throw std::runtime_error("device " + std::to_string(device) + " of " + std::to_string(count) + " was asked for");
  }
  impl_->use();
}

Runtime::~Runtime() {
  for (const auto& event : impl_->events) static_cast<void>(PF_API(EventDestroy)(event->handle));
  for (Stream stream : impl_->streams) static_cast<void>(PF_API(StreamDestroy)(stream));
}

void Runtime::use() const { impl_->use(); }

std::string Runtime::describe() const {
  PfDeviceProperties properties;
  check(PF_API(GetDeviceProperties)(&properties, impl_->device), "properties of a device");
  return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
         std::to_string(properties.minor);
}

void Runtime::memory(size_t* free, size_t* total) const {
  impl_->use();
  check(PF_API(MemGetInfo)(free, total), "asking for the device's memory");
}

void* Runtime::allocate(size_t bytes, const char* name) {
  impl_->use();
  void* memory = nullptr;
  check(PF_API(Malloc)(&memory, bytes > 0 ? bytes : 1), name);
  return memory;
}

void Runtime::release(void* memory) { check(PF_API(Free)(memory), "release of memory"); }

void* Runtime::allocate_host(size_t bytes) {
  impl_->use();
  void* memory = nullptr;
#if defined(__HIPCC__) || defined(__HIP__)
  check(hipHostMalloc(&memory, bytes, hipHostMallocDefault), "pinned memory");
#else
  check(cudaMallocHost(&memory, bytes), "pinned memory");
#endif
  return memory;
}

void Runtime::release_host(void* memory) {
#if defined(__HIPCC__) || defined(__HIP__)
  check(hipHostFree(memory), "release of pinned memory");
#else
  check(cudaFreeHost(memory), "release of pinned memory");
#endif
}

void Runtime::run_blocks_together(Stream) {}
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

void Runtime::begin_capture(Stream stream) {
  check(PF_API(StreamBeginCapture)(stream, PF_API(StreamCaptureModeThreadLocal)), "the beginning of a capture");
}

Graph* Runtime::end_capture(Stream stream) {
  PF_API(Graph_t) captured = nullptr;
  check(PF_API(StreamEndCapture)(stream, &captured), "the end of a capture");
  auto graph = std::make_unique<Graph>();
  const PF_API(Error_t) error = PF_API(GraphInstantiateWithFlags)(&graph->handle, captured, 0);
  static_cast<void>(PF_API(GraphDestroy)(captured));
  check(error, "making a graph");
  return graph.release();
}

void Runtime::launch(const Graph* graph, Stream stream) {
  check(PF_API(GraphLaunch)(graph->handle, stream), "a graph");
}

void Runtime::destroy(Graph* graph) {
  static_cast<void>(PF_API(GraphExecDestroy)(graph->handle));
  delete graph;
}

}  // namespace pf::gpu
