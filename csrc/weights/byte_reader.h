// A cursor over untrusted bytes: every read is checked against the end, so no caller can run past it.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "weights/format_error.h"

namespace pf::weights {

static_assert(std::endian::native == std::endian::little, "files are little endian and read in place");

class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> bytes, size_t offset = 0) : bytes_(bytes), offset_(offset) {
    if (offset > bytes.size()) throw FormatError("offset " + std::to_string(offset) + " lies past the end of the file");
  }

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }

  // The next `count` bytes, in place. `what` names them in the error.
  std::span<const uint8_t> take(uint64_t count, const char* what) {
    if (count > remaining()) {
      throw FormatError(std::string("the file ends inside ") + what + ": " + std::to_string(count) +
                        " bytes needed at offset " + std::to_string(offset_) + ", " + std::to_string(remaining()) +
                        " left");
    }
    std::span<const uint8_t> taken = bytes_.subspan(offset_, count);
    offset_ += count;
    return taken;
  }

  template <typename T>
  T read(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t offset_;
};

inline std::string_view as_text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace pf::weights
