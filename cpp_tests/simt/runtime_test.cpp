// The host's interface to a device, on the emulator.
#include "gpu/runtime.h"

#include <csignal>

#include "harness.h"
#include "ops/activation/gpu/activation.h"
#include "ops/norm/gpu/norm.h"

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

TEST(SimtRuntime, AGraphRunsItsLaunchesEachTimeItIsLaunched) {
  gpu::Runtime runtime(0);
  const gpu::Stream stream = runtime.create_stream();
  auto* x = static_cast<float*>(runtime.allocate(8 * sizeof(float), "x"));
  auto* y = static_cast<float*>(runtime.allocate(4 * sizeof(float), "y"));
  const std::vector<float> first = {1, 2, 3, 4, 10, 20, 30, 40}, second = {-1, -2, -3, -4, 10, 20, 30, 40};
  const auto result = [&] {
    std::vector<float> values(4);
    runtime.copy_out(values.data(), y, 4 * sizeof(float), stream);
    return values;
  };
  runtime.copy_in(x, first.data(), 8 * sizeof(float), stream);
  runtime.fill(y, 0, 4 * sizeof(float), stream);
  runtime.begin_capture(stream);
  gpu::add<float>(x, 4, x + 4, 4, y, 4, 1, 4, stream);
  gpu::add<float>(y, 4, x + 4, 4, y, 4, 1, 4, stream);
  EXPECT_THROW(runtime.fill(y, 0, 4, stream), std::logic_error) << "only launches can be captured";
  gpu::Graph* graph = runtime.end_capture(stream);
  EXPECT_EQ(result(), (std::vector<float>{0, 0, 0, 0})) << "nothing has run yet";
  runtime.launch(graph, stream);
  EXPECT_EQ(result(), (std::vector<float>{21, 42, 63, 84}));
  runtime.copy_in(x, second.data(), 8 * sizeof(float), stream);
  runtime.launch(graph, stream);
  EXPECT_EQ(result(), (std::vector<float>{19, 38, 57, 76})) << "the same addresses, other values";
  runtime.destroy(graph);
  EXPECT_THROW(runtime.end_capture(stream), std::logic_error);
  runtime.release(x);
  runtime.release(y);
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(SimtRuntimeDeathTest, TheHostCannotTouchMemoryOfTheDevice) {
  gpu::Runtime runtime(0);
  const gpu::Stream stream = runtime.create_stream();
  auto* x = static_cast<volatile float*>(runtime.allocate(sizeof(float), "x"));
  const float value = 3.0f;
  runtime.copy_in(const_cast<float*>(x), &value, sizeof value, stream);
  EXPECT_EXIT(static_cast<void>(*x), testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT(*x = 1.0f, testing::KilledBySignal(SIGSEGV), "");
}
#endif

}  // namespace
}  // namespace pf
