// What the entry points of a backend share: each turns exceptions into a code, and keeps the message for last_error.
#pragma once
#include <exception>
#include <new>
#include <string>

namespace pf {

// Of this thread's last failure, in the library that includes this.
inline thread_local std::string last_error_text;

inline const char* last_error() { return last_error_text.c_str(); }

// 0, or 1 when fn throws.
template <class Fn>
int guarded(Fn&& fn) noexcept {
  try {
    fn();
    return 0;
  } catch (const std::bad_alloc&) {
    last_error_text = "out of memory";
  } catch (const std::exception& error) {
    last_error_text = error.what();
  } catch (...) {
    last_error_text = "unknown failure";
  }
  return 1;
}

}  // namespace pf
