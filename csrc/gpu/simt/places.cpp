#include "places.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

#include <memory>

namespace pf::simt {
namespace {

std::string base_name(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

// Asks binutils' addr2line, which understands inlining; without it the address itself must do.
std::string symbolize(const void* pc) {
  char buffer[1024];
  Dl_info info;
  snprintf(buffer, sizeof buffer, "%p", pc);
  if (dladdr(pc, &info) == 0 || info.dli_fname == nullptr) return buffer;
  const std::string address = buffer;
  // One byte before the return address lies the call.
  const uintptr_t offset = reinterpret_cast<uintptr_t>(pc) - reinterpret_cast<uintptr_t>(info.dli_fbase) - 1;
  snprintf(buffer, sizeof buffer, "addr2line -ise '%s' 0x%zx 2>/dev/null", info.dli_fname, static_cast<size_t>(offset));
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(buffer, "r"), pclose);
  std::string text;
  while (pipe != nullptr && fgets(buffer, sizeof buffer, pipe.get()) != nullptr) {
    std::string line(buffer);
    line = line.substr(0, line.find_first_of(" \n"));
    // How a launch unpacks its arguments says nothing.
    if (line.starts_with("simt.h") || line.starts_with("tuple:") || line.starts_with("invoke.h")) continue;
    text += (text.empty() ? "" : " < ") + base_name(line);
  }
  return text.empty() || text[0] == '?' ? address : text;
}

}  // namespace

const void* Places::intern(const std::source_location& at) {
  const void*& place = known_[{at.file_name(), at.line()}];
  if (place == nullptr) {
    texts_.push_back(base_name(at.file_name()) + ":" + std::to_string(at.line()));
    place = &texts_.back();
    by_address_[place] = &texts_.back();
  }
  return place;
}

std::string Places::describe(const void* place) const {
  if (const auto found = by_address_.find(place); found != by_address_.end()) return *found->second;
  std::string& text = symbolized_[place];
  if (text.empty()) text = symbolize(place);
  return text;
}

}  // namespace pf::simt
