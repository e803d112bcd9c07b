// Raised by the readers of this room for a file that is damaged, truncated or not of the expected format.
#pragma once
#include <stdexcept>
#include <string>

namespace pf::weights {

class FormatError : public std::runtime_error {
 public:
  // The reason often quotes names out of an untrusted file: it is cut, and bytes that are not printable ASCII become
  // '?'.
  explicit FormatError(const std::string& reason) : std::runtime_error(printable(reason)) {}

 private:
  static std::string printable(std::string text) {
    constexpr size_t kMaxLength = 300;
    if (text.size() > kMaxLength) text.replace(kMaxLength, std::string::npos, "...");
    for (char& c : text) c = c >= ' ' && c <= '~' ? c : '?';
    return text;
  }
};

}  // namespace pf::weights
