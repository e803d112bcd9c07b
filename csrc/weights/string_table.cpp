#include "weights/string_table.h"

#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "weights/format_error.h"

namespace pf::weights {
namespace {

constexpr uint32_t kEmpty = std::numeric_limits<uint32_t>::max();

// Bytes of the UTF-8 character at the start of `bytes`, which are not ASCII; 0 when they are none.
size_t character_bytes(std::string_view bytes) {
  const auto at = [&](size_t i) { return i < bytes.size() ? static_cast<uint8_t>(bytes[i]) : uint8_t{0}; };
  const uint8_t first = at(0), second = at(1);
  size_t length = 0;
  uint8_t low = 0x80, high = 0xbf;  // of the second byte
  if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first == 0xe0) low = 0xa0;   // else overlong
    if (first == 0xed) high = 0x9f;  // else a surrogate
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first == 0xf0) low = 0x90;   // else overlong
    if (first == 0xf4) high = 0x8f;  // else above U+10FFFF
  }
  if (length == 0 || second < low || second > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

bool is_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    size_t length = 1;
    if (static_cast<uint8_t>(bytes[0]) >= 0x80) length = character_bytes(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

StringTable::StringTable(std::shared_ptr<const void> owner, std::vector<std::string_view> strings,
                         const std::string& name)
    : owner_(std::move(owner)), strings_(std::move(strings)) {
  if (strings_.size() >= kEmpty / 2) throw FormatError(name + " holds too many strings");
  for (const std::string_view text : strings_) {
    if (!is_utf8(text)) throw FormatError(name + " holds text that is not UTF-8");
  }
  index_.assign(std::bit_ceil(2 * strings_.size() + 1), kEmpty);
  for (size_t i = 0; i < strings_.size(); ++i) {
    uint32_t& place = index_[place_of(strings_[i])];
    if (place == kEmpty) {
      place = static_cast<uint32_t>(i);
    } else if (!repeated_) {
      repeated_ = i;
    }
  }
}

std::optional<size_t> StringTable::find(std::string_view text) const {
  const uint32_t found = index_[place_of(text)];
  return found == kEmpty ? std::nullopt : std::optional<size_t>(found);
}

// Where the index has the text, or would have it.
size_t StringTable::place_of(std::string_view text) const {
  const size_t mask = index_.size() - 1;
  size_t place = std::hash<std::string_view>{}(text)&mask;
  while (index_[place] != kEmpty && strings_[index_[place]] != text) place = (place + 1) & mask;
  return place;
}

}  // namespace pf::weights
