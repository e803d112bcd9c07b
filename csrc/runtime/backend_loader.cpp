#include "backend_loader.h"

#include <dlfcn.h>

#include "errors.h"

namespace pf {

namespace {

using Getter = decltype(&pf_backend_get);

// A backend tells its table only to who asks for its version, so what it has is found by asking for others.
std::string version_found(Getter get) {
  constexpr uint32_t kNewest = 4096;
  for (uint32_t abi = 1; abi <= kNewest; ++abi) {
    if (abi != PF_BACKEND_ABI && get(abi) != nullptr) return message("has version ", abi);
  }
  return message("has none of the versions up to ", kNewest);
}

std::string mismatch(const std::string& path, const std::string& found) {
  return message("backend ", path, " ", found, " of the backend interface, and this pageform needs version ",
                 PF_BACKEND_ABI,
                 ". Install both in the same version, a plugin by its extra: pip install --upgrade \"pageform[cuda]\"; "
                 "a backend that was built from source must be built again from this pageform's");
}

}  // namespace

const PfBackend& load_backend(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw BackendError(message("cannot load backend ", path, ": ", dlerror()));
  void* symbol = dlsym(library, "pf_backend_get");
  if (symbol == nullptr) {
    dlclose(library);
    throw BackendError(message(path, " is not a pageform backend: it does not export pf_backend_get"));
  }
  const auto get = reinterpret_cast<Getter>(symbol);
  const PfBackend* backend = get(PF_BACKEND_ABI);
  std::string found;
  if (backend == nullptr) {
    found = version_found(get);
  } else if (backend->abi != PF_BACKEND_ABI) {
    found = message("has version ", backend->abi);
  } else if (backend->size < sizeof(PfBackend)) {
    found =
        message("has an older form (", backend->size, " bytes, not ", sizeof(PfBackend), ") of version ", backend->abi);
  }
  if (!found.empty()) {
    dlclose(library);
    throw BackendError(mismatch(path, found));
  }
  return *backend;
}

const PfLibraries* find_libraries(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* symbol = library == nullptr ? nullptr : dlsym(library, "pf_backend_libraries");
  return symbol == nullptr ? nullptr : reinterpret_cast<decltype(&pf_backend_libraries)>(symbol)();
}

}  // namespace pf
