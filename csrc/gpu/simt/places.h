// Source lines of reports: of emulator calls, which say where they stand, and of instrumented accesses, which know only
// their return address.
#pragma once
#include <deque>
#include <map>
#include <source_location>
#include <string>
#include <unordered_map>
#include <utility>

namespace pf::simt {

// A place is a pointer: a code address, or the address of an entry of this table. Both stay valid and distinct.
class Places {
 public:
  const void* intern(const std::source_location& at);
  // "norm.cu:41", or for an inlined access "device.h:51 < norm.cu:41", the innermost first.
  std::string describe(const void* place) const;

 private:
  struct Hash {
    size_t operator()(const std::pair<const char*, unsigned>& key) const {
      return std::hash<const void*>()(key.first) * 31 + key.second;
    }
  };
  std::unordered_map<std::pair<const char*, unsigned>, const void*, Hash> known_;
  std::deque<std::string> texts_;
  std::map<const void*, const std::string*> by_address_;
  mutable std::map<const void*, std::string> symbolized_;
};

}  // namespace pf::simt
