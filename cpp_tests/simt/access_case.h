// What the table of access counts (access_test.cpp) is made of: inputs without a reference, and the kernels' names.
#pragma once
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>

#include "gemm_case.h"

namespace pf {

// Arrays of a device that live as long as this. Values are drawn: what accesses cost does not depend on them.
class Inputs {
 public:
  explicit Inputs(simt::Device& device) : device_(device) {}
  simt::Device* device() const { return &device_; }

  template <class T>
  T* drawn(int64_t size) {
    return kept(drawn_values<T>(static_cast<size_t>(size), ++seed_));
  }
  template <class T>
  T* kept(const std::vector<T>& values) {
    return keep(std::make_shared<Array<T>>(device_, values, "input"));
  }
  template <class T>
  T* filled(int64_t size, T value = {}) {
    return kept(std::vector<T>(static_cast<size_t>(size), value));
  }
  // first, first + step, ...
  int32_t* counted(int64_t size, int32_t first = 0, int32_t step = 1) {
    std::vector<int32_t> values;
    for (int64_t i = 0; i < size; ++i) values.push_back(first + static_cast<int32_t>(i) * step);
    return kept(values);
  }
  // Bytes of any kind, such as a packed weight.
  uint8_t* bytes(size_t size) {
    std::mt19937 generator(++seed_);
    std::vector<uint8_t> values(size);
    for (uint8_t& value : values) value = static_cast<uint8_t>(generator());
    return kept(values);
  }
  template <class T>
  T* output(int64_t size) {
    return keep(std::make_shared<Array<T>>(device_, static_cast<size_t>(size), "output"));
  }

 private:
  template <class T>
  T* keep(std::shared_ptr<Array<T>> array) {
    T* const data = array->get();
    arrays_.push_back(std::move(array));
    return data;
  }
  simt::Device& device_;
  unsigned seed_ = 0;
  std::vector<std::shared_ptr<void>> arrays_;
};

// A line of a kernel whose accesses cost more than the least, and how much: what was measured, no bound.
struct Costlier {
  std::string file;  // of the innermost line
  bool shared, write;
  double factor;
  auto operator<=>(const Costlier&) const = default;
};

// One row of the table.
struct Counted {
  std::string what;
  std::function<void(Inputs&)> run;
};

// What is known to cost more; docs/design/gpu.md tells why.
inline std::vector<Costlier> known_costs(const std::string& what) {
  const auto starts = [&](const char* words) { return what.starts_with(words); };
  const auto has = [&](const char* words) { return what.find(words) != std::string::npos; };
  const auto reads = [](const char* file, double factor) { return Costlier{file, false, false, factor}; };
  const auto writes = [](const char* file, double factor) { return Costlier{file, false, true, factor}; };
  if (starts("rms_norm of f32 to")) {
    return {reads("norm_quantize.cu", 2), reads("residual.h", 2), writes("residual.h", 2)};
  }
  if (starts("rms_norm") && has(" to ")) return {reads("norm_quantize.cu", 2)};
  if (starts("rms_norm") && !has("f32")) return {reads("norm.cu", 2)};
  if (starts("layer_norm") && !has("f32")) return {reads("layer_norm.cu", 2)};
  if (starts("embed") && (has("packed as int8") || has("packed as e4m3"))) return {reads("embed.h", 2)};
  if (starts("lora")) return {reads("lora.cu", 2)};
  if (starts("sampling")) return {reads("sample.cu", 2.0875), {"select.h", true, false, 3}};
  if (starts("angles")) return {reads("mrope.cu", 13.0 / 12)};
  if (starts("the block pool")) return {reads("blocks.cu", 8), writes("blocks.cu", 2)};
  if (starts("mixture")) return {writes("moe.cu", has("24 tokens") ? 1.2 : 28.0 / 23)};
  if (has("that are no vectors")) return {reads("gemm_ffma.h", 10)};
  std::vector<Costlier> costs;
  if (starts("decode")) {
    const bool bytes = has("over int8") || has("over e4m3"), of_80 = has("heads of 80");
    if (bytes || has("f32 over f16")) costs.push_back(reads("attention.cu", bytes && of_80 ? 5.0 / 3 : 2));
    if (of_80) costs.push_back({"attention.cu", true, false, 1.2});
  }
  if (starts("prefill") && has(", 80")) {
    costs = {reads("prefill.cu", has("over int8") || has("over e4m3") ? 1.157895 : 1.122807),
             {"prefill.cu", true, false, 1.458333}};
  }
  return costs;
}

// This program's kernels, by the address of their functions, as nm and c++filt write their names.
inline std::map<const void*, std::string> kernels_of_this_program() {
  Dl_info about;
  char path[4096] = {};
  if (dladdr(reinterpret_cast<const void*>(&kernels_of_this_program), &about) == 0 ||
      readlink("/proc/self/exe", path, sizeof path - 1) < 0) {
    return {};
  }
  const std::string command = "nm -C '" + std::string(path) + "'";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::map<const void*, std::string> kernels;
  std::vector<char> line(1 << 16);
  while (pipe != nullptr && fgets(line.data(), static_cast<int>(line.size()), pipe.get()) != nullptr) {
    char* rest = nullptr;
    const uintptr_t offset = std::strtoull(line.data(), &rest, 16);
    std::string name(rest);
    while (!name.empty() && name.back() == '\n') name.pop_back();
    if (name.size() < 4 || std::string("tTwW").find(name[1]) == std::string::npos) continue;
    name = name.substr(3);
    if (name.starts_with("void ")) name = name.substr(5);
    for (const std::string space : {"(anonymous namespace)::", "pf::gpu::"}) {
      if (space == "pf::gpu::" && !name.starts_with(space)) name.clear();
      for (size_t at; (at = name.find(space)) != std::string::npos;) name.erase(at, space.size());
    }
    const size_t end = name.find("_kernel");
    // Neither what is inside a kernel, nor what the compiler made of parts of it.
    const bool whole = end != std::string::npos && name.find_first_of(" (<:") == end + 7 &&
                       name.find("{lambda") == std::string::npos && name.find("[clone") == std::string::npos;
    if (whole) kernels[static_cast<const char*>(about.dli_fbase) + offset] = name;
  }
  return kernels;
}

}  // namespace pf
