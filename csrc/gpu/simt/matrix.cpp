// Tensor-core instructions: the fragment layouts of PTX ISA 9.7.14 (ldmatrix .m8n8.b16; mma.sync m16n8k16 and
// m16n8k32).
//
// With g = lane / 4, q = lane % 4 and E elements a 32-bit register (2 or 4), register r, element e of a lane holds
//   A [16][8 E]  row g + 8 (r % 2),  column q E + e + 4 E (r / 2)      4 registers
//   B [8 E][8]   row q E + e + 4 E r,  column g                        2 registers
//   D [16][8]    row g + 8 (i / 2),  column 2 q + i % 2                4 values
// Products are summed in float here, in the tensor core's own way on hardware: compare with a tolerance.
#include <string.h>

#include "../numbers.h"
#include "machine.h"

namespace pf::simt {
namespace {

constexpr int kLanes = 32;

void need_all_lanes(Machine& machine, const Lanes& lanes) {
  for (int i = 0; i < kLanes; ++i) {
    const bool missing = lanes[static_cast<size_t>(i)].thread == nullptr;
    if (!missing && machine.warp_size == kLanes) continue;
    machine.report(Fault::kDivergence, "matrix",
                   machine.warp_size != kLanes ? "a tensor-core instruction in a warp of 64"
                                               : "a tensor-core instruction without lane " + std::to_string(i));
    machine.abandon();
  }
}

struct LoadMatrix {
  uint32_t* fragment;
  const char* row;
  int matrices;
  bool transposed;
};

void run_load_matrix(Machine& machine, Lanes& lanes, const void*) {
  need_all_lanes(machine, lanes);
  const auto argument = [&](int lane) -> LoadMatrix& {
    return *static_cast<LoadMatrix*>(lanes[static_cast<size_t>(lane)].argument);
  };
  const int matrices = argument(0).matrices;
  for (int m = 0; m < matrices; ++m) {
    for (int r = 0; r < 8; ++r) {
      const int lane = 8 * m + r;
      Thread& thread = *lanes[static_cast<size_t>(lane)].thread;
      const char* row = argument(lane).row;
      if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
        machine.report(
            Fault::kMisaligned, "ldmatrix",
            "row address of lane " + std::to_string(lane) + " at " + machine.places.describe(thread.op.place));
        machine.abandon();
      }
      machine.access(thread, row, 16, false, false, thread.op.place);
      if (machine.options.count) machine.count(thread, row, 16, false, thread.op.place);
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      uint32_t word = 0;
      for (int e = 0; e < 2; ++e) {
        const int along = 2 * (lane % 4) + e, across = lane / 4;
        const int row = argument(lane).transposed ? along : across, column = argument(lane).transposed ? across : along;
        uint16_t element;
        memcpy(&element, argument(8 * m + row).row + 2 * column, 2);
        word |= static_cast<uint32_t>(element) << (16 * e);
      }
      argument(lane).fragment[m] = word;
    }
  }
}

struct Mma {
  MmaType type;
  void* d;
  const uint32_t *a, *b;
};

// Element e of a register.
template <MmaType kType>
auto element(uint32_t word, int e) {
  if constexpr (kType == MmaType::kF16) {
    return gpu::to_float(gpu::f16{static_cast<uint16_t>(word >> (16 * e))});
  } else if constexpr (kType == MmaType::kBF16) {
    return gpu::to_float(gpu::bf16{static_cast<uint16_t>(word >> (16 * e))});
  } else if constexpr (kType == MmaType::kE4M3) {
    return gpu::to_float(gpu::e4m3{static_cast<uint8_t>(word >> (8 * e))});
  } else {
    return static_cast<int32_t>(static_cast<int8_t>(word >> (8 * e)));
  }
}

template <MmaType kType>
void multiply(Lanes& lanes) {
  constexpr int kE = kType == MmaType::kF16 || kType == MmaType::kBF16 ? 2 : 4;
  constexpr int kK = 8 * kE;
  using Value = decltype(element<kType>(0u, 0));
  Value a[16][kK], b[kK][8];
  const auto argument = [&](int lane) -> const Mma& {
    return *static_cast<const Mma*>(lanes[static_cast<size_t>(lane)].argument);
  };
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, q = lane % 4;
    for (int e = 0; e < kE; ++e) {
      for (int r = 0; r < 4; ++r) {
        a[g + 8 * (r % 2)][q * kE + e + 4 * kE * (r / 2)] = element<kType>(argument(lane).a[r], e);
      }
      for (int r = 0; r < 2; ++r) b[q * kE + e + 4 * kE * r][g] = element<kType>(argument(lane).b[r], e);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    Value* d = static_cast<Value*>(argument(lane).d);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      Value sum = 0;
      for (int k = 0; k < kK; ++k) sum += a[row][k] * b[k][column];
      d[i] += sum;
    }
  }
}

void run_mma(Machine& machine, Lanes& lanes, const void*) {
  need_all_lanes(machine, lanes);
  switch (static_cast<const Mma*>(lanes[0].argument)->type) {
    case MmaType::kF16:
      return multiply<MmaType::kF16>(lanes);
    case MmaType::kBF16:
      return multiply<MmaType::kBF16>(lanes);
    case MmaType::kS8:
      return multiply<MmaType::kS8>(lanes);
    case MmaType::kE4M3:
      return multiply<MmaType::kE4M3>(lanes);
  }
}

}  // namespace

void load_matrix(uint32_t* fragment, int matrices, bool transposed, const void* row, Where at) {
  const Inside inside;
  Machine& machine = *current()->machine;
  LoadMatrix argument{fragment, static_cast<const char*>(row), matrices, transposed};
  machine.warp_op({"ldmatrix", machine.places.intern(at), &argument, run_load_matrix, nullptr, false});
}

void mma(MmaType type, void* d, const uint32_t* a, const uint32_t* b, Where at) {
  const Inside inside;
  Machine& machine = *current()->machine;
  Mma argument{type, d, a, b};
  machine.warp_op({"mma", machine.places.intern(at), &argument, run_mma, nullptr, false});
}

}  // namespace pf::simt
