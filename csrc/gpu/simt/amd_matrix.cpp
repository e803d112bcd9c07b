// AMD's matrix instructions, with operands in registers as AMD's Matrix Instruction Calculator places them
// (github.com/ROCm/amd_matrix_instruction_calculator, --detail-instruction; the "Register to matrix element mapping").
// A is [16][K], B is [K][16], D is [16][16]; a register of a lane holds 2 or 4 elements, the first in its lowest bits.
//
// v_mfma_*_16x16x*, a wave of 64 (CDNA 2, CDNA 3), with E = K / 4 elements a lane:
//   A   row lane % 16, columns E (lane / 16) + e       B   column lane % 16, rows E (lane / 16) + e
//   D   register r: row 4 (lane / 16) + r, column lane % 16                                            4 registers
// v_wmma_*_16x16x16_*, a wave of 32 (RDNA 3; also "How to accelerate AI applications on RDNA 3 using WMMA", GPUOpen):
//   A   row lane % 16, all columns: lanes 16 to 31 must hold what lanes 0 to 15 do        B   likewise, column lane %
//   16 D   register r: row 2 r + lane / 16, column lane % 16                                              8 registers
//
// 8-bit floats of CDNA 3 are e4m3 FNUZ: the exponent's bias is 8, 0x80 is NaN, and nothing else is.
// Products are summed in float here, in the matrix core's own way on hardware: compare with a tolerance.
#include <cmath>
#include <string>

#include "../numbers.h"
#include "machine.h"

namespace pf::simt {
namespace {

struct Call {
  AmdMatrix type;
  void* d;
  const uint32_t *a, *b;
};

float fnuz_to_float(uint8_t bits) {
  if (bits == 0x80) return std::nanf("");
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -10)
                                        : std::ldexp(static_cast<float>(8 + mantissa), exponent - 11);
  return bits & 0x80 ? -magnitude : magnitude;
}

template <AmdMatrix kType>
auto element(const uint32_t* registers, int e) {
  if constexpr (kType == AmdMatrix::kMfmaF16 || kType == AmdMatrix::kWmmaF16) {
    return gpu::to_float(gpu::f16{static_cast<uint16_t>(registers[e / 2] >> (16 * (e % 2)))});
  } else if constexpr (kType == AmdMatrix::kMfmaBf16 || kType == AmdMatrix::kWmmaBf16) {
    return gpu::to_float(gpu::bf16{static_cast<uint16_t>(registers[e / 2] >> (16 * (e % 2)))});
  } else if constexpr (kType == AmdMatrix::kMfmaFp8) {
    return fnuz_to_float(static_cast<uint8_t>(registers[e / 4] >> (8 * (e % 4))));
  } else {
    return static_cast<int32_t>(static_cast<int8_t>(registers[e / 4] >> (8 * (e % 4))));
  }
}

template <AmdMatrix kType>
void multiply(Machine& machine, Lanes& lanes) {
  constexpr bool kWmma = kType == AmdMatrix::kWmmaF16 || kType == AmdMatrix::kWmmaBf16 || kType == AmdMatrix::kWmmaI8;
  constexpr int kLanes = kWmma ? 32 : 64;
  constexpr int kK = kType == AmdMatrix::kMfmaI8Deep || kType == AmdMatrix::kMfmaFp8 ? 32 : 16;
  constexpr int kE = kWmma ? kK : kK / 4;
  using Value = decltype(element<kType>(nullptr, 0));
  if (machine.warp_size != kLanes) {
    machine.report(
        Fault::kDivergence, "matrix",
        "an instruction of waves of " + std::to_string(kLanes) + " in a warp of " + std::to_string(machine.warp_size));
    machine.abandon();
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    if (lanes[static_cast<size_t>(lane)].thread != nullptr) continue;
    machine.report(Fault::kDivergence, "matrix", "a matrix instruction without lane " + std::to_string(lane));
    machine.abandon();
  }
  const auto argument = [&](int lane) -> const Call& {
    return *static_cast<const Call*>(lanes[static_cast<size_t>(lane)].argument);
  };
  Value a[16][kK], b[kK][16];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int first = kWmma ? 0 : kE * (lane / 16);
    for (int e = 0; e < kE; ++e) {
      const Value in_a = element<kType>(argument(lane).a, e), in_b = element<kType>(argument(lane).b, e);
      if (kWmma && lane >= 16 &&
          (memcmp(&in_a, &a[lane - 16][e], sizeof in_a) != 0 || memcmp(&in_b, &b[e][lane - 16], sizeof in_b) != 0)) {
        machine.report(Fault::kDivergence, "matrix",
                       "lanes " + std::to_string(lane - 16) + " and " + std::to_string(lane) +
                           " of a WMMA hold different operands");
        machine.abandon();
      }
      a[lane % 16][first + e] = in_a;
      b[first + e][lane % 16] = in_b;
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    Value* d = static_cast<Value*>(argument(lane).d);
    for (int r = 0; r < (kWmma ? 8 : 4); ++r) {
      const int row = kWmma ? 2 * r + lane / 16 : 4 * (lane / 16) + r, column = lane % 16;
      Value sum = 0;
      for (int k = 0; k < kK; ++k) sum += a[row][k] * b[k][column];
      d[r] += sum;
    }
  }
}

void run(Machine& machine, Lanes& lanes, const void*) {
  // A warp may lack its first lane; whichever is there tells the instruction.
  const Call* call = nullptr;
  for (const auto& lane : lanes) {
    if (lane.thread != nullptr && call == nullptr) call = static_cast<const Call*>(lane.argument);
  }
  switch (call->type) {
    case AmdMatrix::kMfmaF16:
      return multiply<AmdMatrix::kMfmaF16>(machine, lanes);
    case AmdMatrix::kMfmaBf16:
      return multiply<AmdMatrix::kMfmaBf16>(machine, lanes);
    case AmdMatrix::kMfmaI8:
      return multiply<AmdMatrix::kMfmaI8>(machine, lanes);
    case AmdMatrix::kMfmaI8Deep:
      return multiply<AmdMatrix::kMfmaI8Deep>(machine, lanes);
    case AmdMatrix::kMfmaFp8:
      return multiply<AmdMatrix::kMfmaFp8>(machine, lanes);
    case AmdMatrix::kWmmaF16:
      return multiply<AmdMatrix::kWmmaF16>(machine, lanes);
    case AmdMatrix::kWmmaBf16:
      return multiply<AmdMatrix::kWmmaBf16>(machine, lanes);
    case AmdMatrix::kWmmaI8:
      return multiply<AmdMatrix::kWmmaI8>(machine, lanes);
  }
}

}  // namespace

void amd_matrix(AmdMatrix type, void* d, const uint32_t* a, const uint32_t* b, Where at) {
  const Inside inside;
  Machine& machine = *current()->machine;
  Call argument{type, d, a, b};
  machine.warp_op({"matrix", machine.places.intern(at), &argument, run, nullptr, false});
}

}  // namespace pf::simt
