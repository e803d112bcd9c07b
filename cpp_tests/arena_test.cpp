#include "runtime/arena.h"

#include <gtest/gtest.h>

#include <random>

#include "fixtures/program_builder.h"
#include "runtime/errors.h"

namespace {

using pf::Rows;
using pf::View;

bool alive_together(const pf::Placement& a, const pf::Placement& b) { return a.first <= b.last && b.first <= a.last; }
bool share_bytes(const pf::Placement& a, const pf::Placement& b) {
  return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

void expect_sound(const pf::ArenaPlan& plan) {
  for (size_t i = 0; i < plan.buffers.size(); ++i) {
    const pf::Placement& a = plan.buffers[i];
    EXPECT_EQ(a.offset % pf::kArenaAlignment, 0u);
    EXPECT_LE(a.offset + a.bytes, plan.bytes);
    for (size_t j = 0; j < i; ++j) {
      const pf::Placement& b = plan.buffers[j];
      EXPECT_FALSE(alive_together(a, b) && share_bytes(a, b)) << "buffers " << i << " and " << j;
    }
  }
  EXPECT_LE(plan.bytes, plan.bytes_without_reuse);
}

TEST(Arena, AChainNeedsTwoBuffers) {
  ProgramBuilder b;
  View x = b.input("x", 64);
  for (int i = 0; i < 10; ++i) x = b.norm(x);
  b.program.outputs["y"] = x;
  const pf::ArenaPlan plan = pf::plan_arena(b.program, {8, 1, 1});
  expect_sound(plan);
  EXPECT_EQ(plan.bytes_without_reuse, 11u * 8 * 64 * sizeof(float));
  EXPECT_EQ(plan.bytes, 2u * 8 * 64 * sizeof(float));
}

TEST(Arena, SizesFollowTheRowsOfABuffer) {
  ProgramBuilder b;
  b.buffer(Rows::tokens, 16);
  b.buffer(Rows::seqs, 16);
  b.buffer(Rows::logits, 100);  // its rows take whole cache lines: 112 floats
  const pf::ArenaPlan plan = pf::plan_arena(b.program, {10, 3, 2});
  EXPECT_EQ(plan.buffers[0].bytes, 10u * 64);
  EXPECT_EQ(plan.buffers[1].bytes, 3u * 64);
  EXPECT_EQ(plan.buffers[2].stride, 112);
  EXPECT_EQ(plan.buffers[2].bytes, 2u * 112 * sizeof(float));
}

TEST(Arena, OutputsStayAliveToTheEnd) {
  ProgramBuilder b;
  const View x = b.input("x", 32);
  const View early = b.norm(x);
  b.program.outputs["early"] = early;
  View y = x;
  for (int i = 0; i < 4; ++i) y = b.norm(y);
  b.program.outputs["late"] = y;
  const pf::ArenaPlan plan = pf::plan_arena(b.program, {4, 1, 1});
  expect_sound(plan);
  EXPECT_EQ(plan.buffers[static_cast<size_t>(early.buffer)].last, static_cast<int>(b.program.ops.size()));
  EXPECT_FALSE(
      share_bytes(plan.buffers[static_cast<size_t>(early.buffer)], plan.buffers[static_cast<size_t>(y.buffer)]));
}

// Programs drawn at random: whatever the lives, no two buffers that are alive together share a byte.
TEST(Arena, RandomProgramsAreSound) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    const auto draw = [&](size_t n) { return static_cast<size_t>(random() % n); };
    ProgramBuilder b;
    std::vector<std::vector<View>> by_width(3);
    constexpr int64_t kWidths[] = {16, 40, 200};
    for (size_t w = 0; w < 3; ++w) by_width[w].push_back(b.input(pf::message("x", w), kWidths[w]));
    for (int op = 0; op < 60; ++op) {
      std::vector<View>& views = by_width[draw(3)];
      const View a = views[draw(views.size())], c = views[draw(views.size())];
      views.push_back(b.add(a, c));
      if (draw(10) == 0) b.program.outputs[pf::message("out", op)] = views.back();
    }
    const pf::ArenaPlan plan = pf::plan_arena(b.program, {7, 3, 2});
    expect_sound(plan);
    EXPECT_LT(plan.bytes, plan.bytes_without_reuse);
  }
}

TEST(Arena, DescribesItself) {
  ProgramBuilder b;
  b.program.outputs["y"] = b.norm(b.input("x", 16));
  EXPECT_NE(pf::plan_arena(b.program, {1, 1, 1}).describe().find("arena of 128 bytes"), std::string::npos);
}

}  // namespace
