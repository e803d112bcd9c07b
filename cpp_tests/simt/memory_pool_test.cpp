// The pool of device memory.
#include "gpu/memory_pool.h"

#include "harness.h"

namespace pf {
namespace {

using gpu::MemoryPool;

TEST(SimtMemoryPool, CutsSlabsAndJoinsWhatIsGivenBack) {
  gpu::Runtime runtime(0);
  MemoryPool pool(runtime, 4096);
  auto* a = static_cast<char*>(pool.allocate(300, "a"));
  auto* b = static_cast<char*>(pool.allocate(1, "b"));
  auto* c = static_cast<char*>(pool.allocate(1000, "c"));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % 256, 0u);
  EXPECT_EQ(b, a + 512);
  EXPECT_EQ(c, b + 256);
  EXPECT_EQ(pool.stats().reserved, 4096u);
  EXPECT_EQ(pool.stats().used, 512u + 256 + 1024);
  pool.release(b);
  EXPECT_EQ(pool.allocate(200, "into the gap"), b) << "the smallest piece that fits";
  pool.release(b);
  pool.release(a);
  EXPECT_EQ(pool.allocate(768, "a and b"), a) << "neighbours are one piece again";
  pool.release(c);
  pool.release(a);
  EXPECT_EQ(pool.stats().used, 0u);
  EXPECT_EQ(pool.stats().most_used, 512u + 256 + 1024);
  EXPECT_EQ(pool.allocate(2048, "half a slab"), a);
  EXPECT_EQ(pool.stats().reserved, 4096u);
}

TEST(SimtMemoryPool, LargeMemoryIsOfItsOwnAndGoesBackAtOnce) {
  gpu::Runtime runtime(0);
  MemoryPool pool(runtime, 4096);
  void* large = pool.allocate(5000, "large");
  EXPECT_EQ(pool.stats().reserved, 5000u);
  pool.release(large);
  EXPECT_EQ(pool.stats().reserved, 0u);
  MemoryPool exact(runtime, 0);
  void* nothing = exact.allocate(0, "nothing");
  void* small = exact.allocate(10, "small");
  EXPECT_NE(nothing, small);
  EXPECT_EQ(exact.stats().reserved, 11u);
}

TEST(SimtMemoryPool, GivesSlabsBackWhenNothingIsInUse) {
  gpu::Runtime runtime(0);
  MemoryPool pool(runtime, 1024);
  void* a = pool.allocate(512, "a");
  void* b = pool.allocate(512, "b");
  void* c = pool.allocate(512, "c");
  EXPECT_EQ(pool.stats().reserved, 2048u);
  pool.release(a);
  pool.trim();
  EXPECT_EQ(pool.stats().reserved, 2048u) << "b is in use";
  pool.release(b);
  pool.trim();
  EXPECT_EQ(pool.stats().reserved, 1024u);
  pool.release(c);
  pool.trim();
  EXPECT_EQ(pool.stats().reserved, 0u);
}

TEST(SimtMemoryPool, RefusesWhatItDidNotHandOut) {
  gpu::Runtime runtime(0);
  MemoryPool pool(runtime, 1024);
  void* a = pool.allocate(100, "a");
  EXPECT_THROW(pool.release(static_cast<char*>(a) + 256), std::invalid_argument);
  pool.release(nullptr);
  pool.release(a);
  EXPECT_THROW(pool.release(a), std::invalid_argument) << "twice";
}

// A random history: pieces never overlap, keep what was written, and everything can be given back.
TEST(SimtMemoryPool, PiecesNeverOverlap) {
  gpu::Runtime runtime(0);
  const gpu::Stream stream = runtime.create_stream();
  MemoryPool pool(runtime, 8192);
  struct Held {
    void* memory;
    size_t bytes;
    unsigned char mark;
  };
  std::vector<Held> held;
  std::mt19937 random(7);
  for (int turn = 0; turn < 600; ++turn) {
    if (held.empty() || random() % 5 < 3) {
      const size_t bytes = random() % (random() % 8 == 0 ? 9000 : 1500);
      const auto mark = static_cast<unsigned char>(random());
      held.push_back({pool.allocate(bytes, "piece"), bytes, mark});
      runtime.fill(held.back().memory, mark, bytes, stream);
    } else {
      const size_t at = random() % held.size();
      std::vector<unsigned char> seen(held[at].bytes);
      runtime.copy_out(seen.data(), held[at].memory, seen.size(), stream);
      ASSERT_EQ(std::ranges::count(seen, held[at].mark), static_cast<std::ptrdiff_t>(seen.size()));
      pool.release(held[at].memory);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  for (const Held& piece : held) pool.release(piece.memory);
  pool.trim();
  EXPECT_EQ(pool.stats().used, 0u);
  EXPECT_EQ(pool.stats().reserved, 0u);
}

}  // namespace
}  // namespace pf
