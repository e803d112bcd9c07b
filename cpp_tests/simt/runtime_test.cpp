// The host's interface to a device, on the emulator.
#include "gpu/runtime.h"

#include "harness.h"
#include "ops/activation/gpu/activation.h"

namespace pf {
namespace {

TEST(SimtRuntime, MemoryStreamsAndEvents) {
  EXPECT_EQ(gpu::Runtime::device_count(), 1);
  EXPECT_THROW(gpu::Runtime(1), std::runtime_error);
  gpu::Runtime runtime(0);
  EXPECT_NE(runtime.describe().find("emulated"), std::string::npos);
  const gpu::Stream copies = runtime.create_stream(), work = runtime.create_stream();
  gpu::Event* ready = runtime.create_event();

  const std::vector<float> values = normal_values(3 * 8, 1);
  const std::vector<int32_t> order = {2, 0};
  auto* x = static_cast<float*>(runtime.allocate(values.size() * sizeof(float), "x"));
  auto* y = static_cast<float*>(runtime.allocate(16 * sizeof(float), "y"));
  auto* rows = static_cast<int32_t*>(runtime.allocate(2 * sizeof(int32_t), "rows"));
  runtime.copy_in(x, values.data(), values.size() * sizeof(float), copies);
  runtime.copy_in(rows, order.data(), 2 * sizeof(int32_t), copies);
  runtime.fill(y, 0, 16 * sizeof(float), copies);
  runtime.record(ready, copies);
  runtime.wait(work, ready);
  gpu::gather_rows<float>(x, 8, rows, y, 8, 2, 8, work);
  std::vector<float> gathered(16);
  runtime.copy_out(gathered.data(), y, 16 * sizeof(float), work);
  runtime.synchronize(work);
  EXPECT_TRUE(std::equal(gathered.begin(), gathered.begin() + 8, values.begin() + 16));
  EXPECT_TRUE(std::equal(gathered.begin() + 8, gathered.end(), values.begin()));
  for (void* memory : {static_cast<void*>(x), static_cast<void*>(y), static_cast<void*>(rows)}) runtime.release(memory);
}

}  // namespace
}  // namespace pf
