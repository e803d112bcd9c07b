// Errors of the runtime. A bad program, plan or array is std::invalid_argument; what a backend can't do, or failed at,
// is BackendError (pageform.core.errors.BackendError in Python).
#pragma once
#include <stdexcept>
#include <string>

namespace pf {

class BackendError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Joins printable pieces: message("layer ", 3, " of ", 2).
template <class... Pieces>
std::string message(const Pieces&... pieces) {
  std::string text;
  const auto append = [&text](const auto& piece) {
    if constexpr (std::is_convertible_v<decltype(piece), std::string>) {
      text += piece;
    } else {
      text += std::to_string(piece);
    }
  };
  (append(pieces), ...);
  return text;
}

template <class... Pieces>
[[noreturn]] void refuse(const Pieces&... pieces) {
  throw std::invalid_argument(message(pieces...));
}

}  // namespace pf
