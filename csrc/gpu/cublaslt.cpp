#include "cublaslt.h"

#include <stdexcept>

namespace pf::gpu::cublaslt {

Library::Library(const std::vector<std::string>& names) : file(names) {
  file.find(get_version, "cublasLtGetVersion");
  if (get_version() < kOldestVersion) {
    throw std::runtime_error(file.path() + " is version " + version() + ", too old: 12.0 is the oldest that will do");
  }
  file.find(status_name, "cublasLtGetStatusName");
  file.find(create, "cublasLtCreate");
  file.find(destroy, "cublasLtDestroy");
  file.find(desc_create, "cublasLtMatmulDescCreate");
  file.find(desc_destroy, "cublasLtMatmulDescDestroy");
  file.find(desc_set, "cublasLtMatmulDescSetAttribute");
  file.find(layout_create, "cublasLtMatrixLayoutCreate");
  file.find(layout_destroy, "cublasLtMatrixLayoutDestroy");
  file.find(preference_create, "cublasLtMatmulPreferenceCreate");
  file.find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
  file.find(preference_set, "cublasLtMatmulPreferenceSetAttribute");
  file.find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
  file.find(matmul, "cublasLtMatmul");
}

std::string Library::version() const {
  const size_t number = get_version();
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
}

}  // namespace pf::gpu::cublaslt
