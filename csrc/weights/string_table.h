// The strings of an array, in place: by index, and by content through an index of hashes. Immutable, so thread-safe.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace pf::weights {

class StringTable {
 public:
  // `owner` keeps the bytes of the strings alive. Throws FormatError, beginning with `name`, for bytes that are not
  // UTF-8 and for more strings than 32 bits count.
  StringTable(std::shared_ptr<const void> owner, std::vector<std::string_view> strings, const std::string& name);

  size_t size() const { return strings_.size(); }
  std::string_view operator[](size_t index) const { return strings_[index]; }
  // The first index of a string.
  std::optional<size_t> find(std::string_view text) const;
  // The least index of a string that also stands before it.
  std::optional<size_t> repeated() const { return repeated_; }

 private:
  size_t place_of(std::string_view text) const;

  std::shared_ptr<const void> owner_;
  std::vector<std::string_view> strings_;
  std::vector<uint32_t> index_;  // open addressing over a power of two of places, at most half full
  std::optional<size_t> repeated_;
};

// Whether bytes are UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view bytes);

}  // namespace pf::weights
