// Opens the real libraries, and calls of them what needs no GPU: probe CUBLASLT NCCL
#include <cstdio>
#include <exception>

#include "gpu/cublaslt.h"
#include "gpu/nccl.h"

namespace {

namespace lt = pf::gpu::cublaslt;
int g_failed = 0;

void expect(bool right, const char* what) {
  std::printf("%s  %s\n", right ? "ok    " : "FAILED", what);
  if (!right) ++g_failed;
}

template <class T>
bool sets(const lt::Library& library, lt::MatmulDesc desc, lt::DescAttribute attribute, T value) {
  return library.desc_set(desc, attribute, &value, sizeof value) == lt::kSuccess;
}
template <class T>
bool sets(const lt::Library& library, lt::Preference preference, lt::PreferenceAttribute attribute, T value) {
  return library.preference_set(preference, attribute, &value, sizeof value) == lt::kSuccess;
}

void probe_cublaslt(const char* path) {
  const lt::Library library({path});
  std::printf("cuBLASLt %s, all functions found: %s\n", library.version().c_str(), library.file.path().c_str());
  lt::Handle handle = nullptr;
  const lt::Status created = library.create(&handle);
  std::printf("        cublasLtCreate: %s\n", library.status_name(created));
  expect((created == lt::kSuccess) == (handle != nullptr), "a handle, or a status that says why there is none");

  lt::MatmulDesc desc = nullptr;
  expect(library.desc_create(&desc, lt::kCompute32F, lt::kFloat) == lt::kSuccess, "a description of a product");
  expect(sets(library, desc, lt::kTransposeA, lt::kTranspose), "TRANSA takes four bytes");
  expect(sets(library, desc, lt::kEpilogue, lt::kBiasEpilogue), "EPILOGUE takes four bytes");
  expect(sets(library, desc, lt::kBiasType, lt::kFloat), "BIAS_DATA_TYPE takes four bytes");
  expect(sets(library, desc, lt::kScaleModeA, lt::kVectorScale), "A_SCALE_MODE takes four bytes");
  expect(sets(library, desc, lt::kScaleModeB, lt::kVectorScale), "B_SCALE_MODE takes four bytes");
  const float* const nowhere = nullptr;
  expect(sets(library, desc, lt::kBiasPointer, nowhere), "BIAS_POINTER takes a pointer");
  expect(sets(library, desc, lt::kScalePointerA, nowhere), "A_SCALE_POINTER takes a pointer");
  expect(sets(library, desc, lt::kScalePointerB, nowhere), "B_SCALE_POINTER takes a pointer");
  expect(!sets(library, desc, lt::kTransposeA, char{1}), "a value of another size is refused");

  lt::MatrixLayout layout = nullptr;
  for (const lt::DataType type : {lt::kFloat, lt::kHalf, lt::kBfloat16, lt::kE4m3}) {
    expect(library.layout_create(&layout, type, 4096, 512, 4160) == lt::kSuccess, "a layout of each type");
    expect(library.layout_destroy(layout) == lt::kSuccess, "which is released");
  }
  lt::Preference preference = nullptr;
  expect(library.preference_create(&preference) == lt::kSuccess, "a preference");
  expect(sets(library, preference, lt::kMaxWorkspace, size_t{32} << 20), "MAX_WORKSPACE_BYTES takes eight bytes");
  for (const auto side : {lt::kMinAlignmentA, lt::kMinAlignmentB, lt::kMinAlignmentC, lt::kMinAlignmentD}) {
    expect(sets(library, preference, side, uint32_t{16}), "each MIN_ALIGNMENT takes four bytes");
  }
  expect(library.preference_destroy(preference) == lt::kSuccess, "which is released");
  expect(library.desc_destroy(desc) == lt::kSuccess, "and so is the description");
  if (handle != nullptr) library.destroy(handle);
}

void probe_nccl(const char* path) {
  const pf::gpu::nccl::Library library({path});
  std::printf("NCCL %s, all functions found: %s\n", library.version().c_str(), library.file.path().c_str());
  for (const pf::gpu::nccl::Result result : {0, 1, 4}) {
    std::printf("        ncclGetErrorString(%d): %s\n", result, library.error_string(result));
  }
  try {
    const auto id = library.unique_id();
    pf::gpu::nccl::Comm comm = nullptr;
    library.check(library.init_rank(&comm, 1, id, 0), nullptr, "ncclCommInitRank");
    std::printf("        one rank is there\n");
    expect(library.destroy(comm) == pf::gpu::nccl::kSuccess, "and leaves");
  } catch (const std::exception& error) {
    std::printf("        %s\n", error.what());
  }
  bool refused = false;
  try {
    library.check(library.all_reduce(nullptr, nullptr, 1, pf::gpu::nccl::kFloat, pf::gpu::nccl::kSum, nullptr, nullptr),
                  nullptr, "ncclAllReduce");
  } catch (const std::exception& error) {
    refused = true;
    std::printf("        %s\n", error.what());
  }
  expect(refused, "a sum over no ranks is refused");
}

}  // namespace

int main(int, char** arguments) {
  try {
    probe_cublaslt(arguments[1]);
    probe_nccl(arguments[2]);
  } catch (const std::exception& error) {
    std::printf("FAILED  %s\n", error.what());
    return 1;
  }
  return g_failed == 0 ? 0 : 1;
}
