// Finding the C interface of a backend in a shared library.
#pragma once
#include <string>

#include "backend.h"
#include "backend_libraries.h"

namespace pf {

// Opens the library and returns its interface, which stays valid for the life of the process (a backend's threads may
// outlive any owner, so libraries are never unloaded). Throws BackendError: no such library, no entry point, another
// version of the interface.
const PfBackend& load_backend(const std::string& path);

// Of a backend that was loaded; null: it uses no libraries of a vendor.
const PfLibraries* find_libraries(const std::string& path);

}  // namespace pf
