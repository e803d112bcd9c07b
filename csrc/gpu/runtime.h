// The host's side of a device: memory, streams and events, the same on CUDA, HIP and the emulator.
//
//   Runtime runtime(0);
//   void* x = runtime.allocate(bytes, "x");
//   runtime.copy_in(x, values, bytes, stream);     // stream order; `values` must stay until synchronize()
//   launch_something(x, stream);
//   runtime.copy_out(values, x, bytes, stream);
//   runtime.synchronize(stream);
//
// Owns its streams and events; memory and graphs are released by whoever made them. One runtime per device, used by one
// thread at a time. Every failure is a std::runtime_error with the driver's words. The emulator runs what is asked for
// at once, which every order of streams allows: it does not find a wait that is missing between streams.
#pragma once
#include <stddef.h>

#include <memory>
#include <string>

#include "gpu.h"

namespace pf::gpu {

struct Event;  // a point in a stream; owned by the runtime
struct Graph;  // launches that were captured, with their arguments

class Runtime {
 public:
  // 0 where there is no driver or no device; never throws.
  static int device_count();

  explicit Runtime(int device);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // Makes the device the calling thread's; to be called first by every thread that comes to use this runtime.
  void use() const;

  std::string describe() const;  // for example "NVIDIA H100, compute capability 9.0"

  // Bytes: how many could be allocated now, and how many there are. The emulator's are the host's.
  void memory(size_t* free, size_t* total) const;

  // Aligned to 256 bytes; `name` is what reports of the emulator call it.
  void* allocate(size_t bytes, const char* name);
  void release(void* memory);

  // Memory of the host that the device copies from and to without a stop in between.
  void* allocate_host(size_t bytes);
  void release_host(void* memory);

  Stream create_stream();
  // Blocks of what is launched in the stream from now on may wait for each other. GPUs run as many at once as they have
  // room for, which the launch must not exceed; the emulator runs them one by one unless it is told.
  void run_blocks_together(Stream stream);
  Event* create_event();

  void copy_in(void* device, const void* host, size_t bytes, Stream stream);
  void copy_out(void* host, const void* device, size_t bytes, Stream stream);
  void fill(void* device, int byte, size_t bytes, Stream stream);

  void record(Event* event, Stream stream);
  void wait(Stream stream, Event* event);  // what comes next in `stream` waits for `event`
  void synchronize(Stream stream);         // the host waits for all of `stream`

  // Kernels launched in `stream` between the two run when the graph is launched, and each time it is. Nothing is
  // allocated or copied meanwhile.
  void begin_capture(Stream stream);
  Graph* end_capture(Stream stream);
  void launch(const Graph* graph, Stream stream);
  void destroy(Graph* graph);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pf::gpu
