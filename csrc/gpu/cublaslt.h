// What the backend uses of cuBLASLt, which is loaded at run time: neither its headers nor the library are needed to
// build. ci/gpu_libs compares these declarations with NVIDIA's own headers.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "shared_library.h"

namespace pf::gpu::cublaslt {

using Handle = struct HandleOpaque*;
using MatmulDesc = struct MatmulDescOpaque*;
using MatrixLayout = struct MatrixLayoutOpaque*;
using Preference = struct PreferenceOpaque*;

using Status = int;
constexpr Status kSuccess = 0;

enum DataType : int { kFloat = 0, kHalf = 2, kBfloat16 = 14, kE4m3 = 28 };
enum ComputeType : int { kCompute32F = 68 };
enum Operation : int32_t { kNone = 0, kTranspose = 1 };
enum DescAttribute : int {
  kTransposeA = 3,
  kEpilogue = 7,
  kBiasPointer = 8,
  kScalePointerA = 17,
  kScalePointerB = 18,
  kBiasType = 26,
  kScaleModeA = 31,
  kScaleModeB = 32,
};
enum PreferenceAttribute : int {
  kMaxWorkspace = 1,
  kMinAlignmentA = 5,
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8,
};
enum Epilogue : uint32_t { kPlainEpilogue = 1, kBiasEpilogue = 4 };
enum ScaleMode : int32_t { kOneScale = 0, kVectorScale = 3 };

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

constexpr size_t kOldestVersion = 120000;  // 12.0, the first with e4m3

// Its functions. `Stream` of the device is passed as the pointer that it is.
struct Library {
  // std::runtime_error: not found, too old, or a function is missing.
  explicit Library(const std::vector<std::string>& names);

  // "13.0.2"
  std::string version() const;

  SharedLibrary file;
  size_t (*get_version)();
  const char* (*status_name)(Status);
  Status (*create)(Handle*);
  Status (*destroy)(Handle);
  Status (*desc_create)(MatmulDesc*, ComputeType, DataType scale);
  Status (*desc_destroy)(MatmulDesc);
  Status (*desc_set)(MatmulDesc, DescAttribute, const void*, size_t);
  Status (*layout_create)(MatrixLayout*, DataType, uint64_t rows, uint64_t cols, int64_t leading);
  Status (*layout_destroy)(MatrixLayout);
  Status (*preference_create)(Preference*);
  Status (*preference_destroy)(Preference);
  Status (*preference_set)(Preference, PreferenceAttribute, const void*, size_t);
  Status (*heuristic)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d, Preference,
                      int wanted, Heuristic results[], int* found);
  Status (*matmul)(Handle, MatmulDesc, const void* alpha, const void* a, MatrixLayout, const void* b, MatrixLayout,
                   const void* beta, const void* c, MatrixLayout, void* d, MatrixLayout, const Algorithm*,
                   void* workspace, size_t workspace_bytes, void* stream);
};

}  // namespace pf::gpu::cublaslt
