#include "backend_loader.h"

#include <dlfcn.h>

#include "errors.h"

namespace pf {

const PfBackend& load_backend(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw BackendError(message("cannot load backend ", path, ": ", dlerror()));
  void* symbol = dlsym(library, "pf_backend_get");
  if (symbol == nullptr) {
    dlclose(library);
    throw BackendError(message(path, " is not a pageform backend: it does not export pf_backend_get"));
  }
  const PfBackend* backend = reinterpret_cast<decltype(&pf_backend_get)>(symbol)(PF_BACKEND_ABI);
  if (backend == nullptr || backend->abi != PF_BACKEND_ABI || backend->size < sizeof(PfBackend)) {
    dlclose(library);
    throw BackendError(message("backend ", path, " does not support version ", PF_BACKEND_ABI,
                               " of the backend interface; install matching versions of pageform and the backend"));
  }
  return *backend;
}

}  // namespace pf
