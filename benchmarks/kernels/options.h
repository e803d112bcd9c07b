// Options of the kernel benchmarks: --name value, lists with commas.
#pragma once
#include <algorithm>
#include <cstdio>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace bench {

inline std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> items;
  std::stringstream stream(list);
  for (std::string item; std::getline(stream, item, ',');) items.push_back(item);
  return items;
}

// Puts what the command line says over the defaults; false, with a message, for a name that has none.
inline bool read_options(int argc, char** argv, std::map<std::string, std::string>& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = std::string(argv[i]).substr(std::min<size_t>(2, std::string(argv[i]).size()));
    if (options.count(name) == 0) {
      std::fprintf(stderr, "unknown option %s\n", argv[i]);
      return false;
    }
    options[name] = argv[i + 1];
  }
  return true;
}

}  // namespace bench
