// One block of memory for all buffers of a program. Buffers that are never alive at the same op share bytes; offsets
// are planned once, for the largest step, so that every step of every size finds a buffer at the same address.
//
//   op        0     1     2     3
//   hidden    ████████████████████        offset 0
//   normed          ███████               offset A
//   gate_up               ███████         offset B
//   logits                      ██        offset A again
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "program.h"

namespace pf {

// Sizes that the rows of buffers stand for: of one step, or their maxima.
struct StepSizes {
  int64_t tokens = 0, seqs = 0, logits = 0;
  int64_t of(Rows rows) const;
  bool operator==(const StepSizes&) const = default;
};

struct Placement {
  size_t offset = 0, bytes = 0;
  int64_t stride = 0;       // elements from one row to the next: cols rounded up to a whole cache line
  int first = 0, last = 0;  // ops at which the buffer is alive; an input from outside is alive from op 0 on
};

struct ArenaPlan {
  std::vector<Placement> buffers;
  size_t bytes = 0;                // of the arena
  size_t bytes_without_reuse = 0;  // what separate buffers would take

  // A table of offsets, sizes and lifetimes, for people.
  std::string describe() const;
};

constexpr size_t kArenaAlignment = 64;

// Greedy by size (Pisarchyk and Lee, 2020, "Efficient Memory Management for Deep Neural Net Inference"): buffers in
// order of falling size, each at the lowest offset free during its whole life. `maxima` are the sizes of the largest
// step. Outputs of the program stay alive to the end.
ArenaPlan plan_arena(const Program& program, const StepSizes& maxima);

}  // namespace pf
