#include "shared_library.h"

#include <dlfcn.h>
#include <link.h>

#include <stdexcept>

namespace pf::gpu {

SharedLibrary::SharedLibrary(const std::vector<std::string>& names) {
  std::string reasons;
  for (const std::string& name : names) {
    handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) {
      const link_map* loaded = nullptr;
      path_ = dlinfo(handle_, RTLD_DI_LINKMAP, &loaded) == 0 ? loaded->l_name : name;
      return;
    }
    reasons += (reasons.empty() ? "" : "; ") + std::string(dlerror());
  }
  throw std::runtime_error("not found: " + (reasons.empty() ? "nowhere to look for it" : reasons));
}

void* SharedLibrary::symbol(const char* name) const {
  void* const found = dlsym(handle_, name);
  if (found == nullptr) throw std::runtime_error(path_ + " lacks " + name);
  return found;
}

}  // namespace pf::gpu
