// A library that is not linked with but loaded when it is first wanted, and may be missing.
//
//   SharedLibrary library({"/opt/lib/libx.so.2", "libx.so.2"});
//   int (*version)();
//   library.find(version, "x_version");
//
// It stays loaded until the process ends: libraries of vendors keep threads and exit handlers.
#pragma once
#include <string>
#include <vector>

namespace pf::gpu {

class SharedLibrary {
 public:
  // Loads the first of `names` that there is: paths, or names for the system's loader. std::runtime_error with the
  // loader's reason for each.
  explicit SharedLibrary(const std::vector<std::string>& names);

  // The file that was loaded.
  const std::string& path() const { return path_; }

  // std::runtime_error where the library has no such function.
  template <class F>
  void find(F*& function, const char* name) const {
    function = reinterpret_cast<F*>(symbol(name));
  }

 private:
  void* symbol(const char* name) const;

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace pf::gpu
