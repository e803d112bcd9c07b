// Compiled only: what csrc/gpu declares of cuBLASLt and NCCL is what their own headers say.
#include <cublasLt.h>
#include <nccl.h>

#include <type_traits>

#include "gpu/cublaslt.h"
#include "gpu/nccl.h"

namespace lt = pf::gpu::cublaslt;
namespace nc = pf::gpu::nccl;

// Passed in the same way: by the same register, or as bytes of the same size.
template <class Ours, class Theirs>
constexpr bool kAlike = std::is_same_v<Ours, Theirs> || (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>) ||
                        ((std::is_enum_v<Theirs> || std::is_integral_v<Theirs>) && !std::is_pointer_v<Ours> &&
                         !std::is_class_v<Ours> && sizeof(Ours) == sizeof(Theirs)) ||
                        (std::is_class_v<Ours> && std::is_class_v<Theirs> && sizeof(Ours) == sizeof(Theirs) &&
                         alignof(Ours) == alignof(Theirs));

template <class Ours, class Theirs>
struct Signatures : std::false_type {};
template <class R1, class... P1, class R2, class... P2>
  requires(sizeof...(P1) == sizeof...(P2))
struct Signatures<R1 (*)(P1...), R2(P2...)> : std::bool_constant<kAlike<R1, R2> && (kAlike<P1, P2> && ...)> {};

#define PF_SAME_FUNCTION(library, member, function) \
  static_assert(Signatures<decltype(library::Library::member), decltype(function)>::value, #function)
#define PF_SAME_VALUE(ours, theirs) static_assert(static_cast<long>(ours) == static_cast<long>(theirs), #theirs)

PF_SAME_FUNCTION(lt, get_version, cublasLtGetVersion);
PF_SAME_FUNCTION(lt, status_name, cublasLtGetStatusName);
PF_SAME_FUNCTION(lt, create, cublasLtCreate);
PF_SAME_FUNCTION(lt, destroy, cublasLtDestroy);
PF_SAME_FUNCTION(lt, desc_create, cublasLtMatmulDescCreate);
PF_SAME_FUNCTION(lt, desc_destroy, cublasLtMatmulDescDestroy);
PF_SAME_FUNCTION(lt, desc_set, cublasLtMatmulDescSetAttribute);
PF_SAME_FUNCTION(lt, layout_create, cublasLtMatrixLayoutCreate);
PF_SAME_FUNCTION(lt, layout_destroy, cublasLtMatrixLayoutDestroy);
PF_SAME_FUNCTION(lt, preference_create, cublasLtMatmulPreferenceCreate);
PF_SAME_FUNCTION(lt, preference_destroy, cublasLtMatmulPreferenceDestroy);
PF_SAME_FUNCTION(lt, preference_set, cublasLtMatmulPreferenceSetAttribute);
PF_SAME_FUNCTION(lt, heuristic, cublasLtMatmulAlgoGetHeuristic);
PF_SAME_FUNCTION(lt, matmul, cublasLtMatmul);

PF_SAME_VALUE(lt::kSuccess, CUBLAS_STATUS_SUCCESS);
PF_SAME_VALUE(lt::kFloat, CUDA_R_32F);
PF_SAME_VALUE(lt::kHalf, CUDA_R_16F);
PF_SAME_VALUE(lt::kBfloat16, CUDA_R_16BF);
PF_SAME_VALUE(lt::kE4m3, CUDA_R_8F_E4M3);
PF_SAME_VALUE(lt::kCompute32F, CUBLAS_COMPUTE_32F);
PF_SAME_VALUE(lt::kNone, CUBLAS_OP_N);
PF_SAME_VALUE(lt::kTranspose, CUBLAS_OP_T);
PF_SAME_VALUE(lt::kTransposeA, CUBLASLT_MATMUL_DESC_TRANSA);
PF_SAME_VALUE(lt::kEpilogue, CUBLASLT_MATMUL_DESC_EPILOGUE);
PF_SAME_VALUE(lt::kBiasPointer, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
PF_SAME_VALUE(lt::kScalePointerA, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
PF_SAME_VALUE(lt::kScalePointerB, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
PF_SAME_VALUE(lt::kBiasType, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE);
PF_SAME_VALUE(lt::kScaleModeA, CUBLASLT_MATMUL_DESC_A_SCALE_MODE);
PF_SAME_VALUE(lt::kScaleModeB, CUBLASLT_MATMUL_DESC_B_SCALE_MODE);
PF_SAME_VALUE(lt::kMaxWorkspace, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
PF_SAME_VALUE(lt::kMinAlignmentA, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
PF_SAME_VALUE(lt::kMinAlignmentB, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
PF_SAME_VALUE(lt::kMinAlignmentC, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
PF_SAME_VALUE(lt::kMinAlignmentD, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
PF_SAME_VALUE(lt::kPlainEpilogue, CUBLASLT_EPILOGUE_DEFAULT);
PF_SAME_VALUE(lt::kBiasEpilogue, CUBLASLT_EPILOGUE_BIAS);
PF_SAME_VALUE(lt::kOneScale, CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
PF_SAME_VALUE(lt::kVectorScale, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
PF_SAME_VALUE(sizeof(lt::Algorithm), sizeof(cublasLtMatmulAlgo_t));
PF_SAME_VALUE(sizeof(lt::Heuristic), sizeof(cublasLtMatmulHeuristicResult_t));
PF_SAME_VALUE(offsetof(lt::Heuristic, workspace_bytes), offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
PF_SAME_VALUE(offsetof(lt::Heuristic, state), offsetof(cublasLtMatmulHeuristicResult_t, state));
PF_SAME_VALUE(offsetof(lt::Heuristic, waves), offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));

PF_SAME_FUNCTION(nc, get_version, ncclGetVersion);
PF_SAME_FUNCTION(nc, error_string, ncclGetErrorString);
PF_SAME_FUNCTION(nc, last_error, ncclGetLastError);
PF_SAME_FUNCTION(nc, get_unique_id, ncclGetUniqueId);
PF_SAME_FUNCTION(nc, init_rank, ncclCommInitRank);
PF_SAME_FUNCTION(nc, destroy, ncclCommDestroy);
PF_SAME_FUNCTION(nc, all_reduce, ncclAllReduce);
PF_SAME_FUNCTION(nc, all_gather, ncclAllGather);

PF_SAME_VALUE(nc::kSuccess, ncclSuccess);
PF_SAME_VALUE(nc::kByte, ncclInt8);
PF_SAME_VALUE(nc::kHalf, ncclFloat16);
PF_SAME_VALUE(nc::kFloat, ncclFloat32);
PF_SAME_VALUE(nc::kBfloat16, ncclBfloat16);
PF_SAME_VALUE(nc::kSum, ncclSum);
PF_SAME_VALUE(sizeof(nc::UniqueId), sizeof(ncclUniqueId));
