#include "weights/json_cursor.h"

#include "weights/format_error.h"

namespace pf::weights {
namespace {

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  const int continuation = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  const uint32_t lead = continuation == 1 ? 0xC0 : continuation == 2 ? 0xE0 : 0xF0;
  out += static_cast<char>(lead | code >> (6 * continuation));
  for (int i = continuation - 1; i >= 0; --i) out += static_cast<char>(0x80 | (code >> (6 * i) & 0x3F));
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

void JsonCursor::fail(const char* expected) const {
  throw FormatError("the JSON header has no " + std::string(expected) + " at byte " + std::to_string(position_));
}

void JsonCursor::skip_space() {
  while (position_ < text_.size()) {
    const char c = text_[position_];
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') break;
    ++position_;
  }
}

char JsonCursor::next() {
  if (position_ == text_.size()) fail("end of the string");
  return text_[position_++];
}

bool JsonCursor::accept(char c) {
  skip_space();
  if (position_ == text_.size() || text_[position_] != c) return false;
  ++position_;
  return true;
}

void JsonCursor::expect(char c) {
  const char expected[] = {'\'', c, '\'', '\0'};
  if (!accept(c)) fail(expected);
}

void JsonCursor::expect_end() {
  skip_space();
  if (position_ != text_.size()) fail("end");
}

uint64_t JsonCursor::integer() {
  skip_space();
  const size_t start = position_;
  uint64_t value = 0;
  while (position_ < text_.size() && is_digit(text_[position_])) {
    const auto digit = static_cast<uint64_t>(text_[position_] - '0');
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value)) {
      fail("integer of at most 64 bits");
    }
    ++position_;
  }
  const size_t digits = position_ - start;
  if (digits == 0 || (digits > 1 && text_[start] == '0')) fail("unsigned integer");
  return value;
}

uint32_t JsonCursor::hex4() {
  uint32_t code = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = next();
    const char lower = static_cast<char>(c | 0x20);
    if (is_digit(c)) {
      code = code * 16 + static_cast<uint32_t>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      code = code * 16 + static_cast<uint32_t>(lower - 'a' + 10);
    } else {
      fail("hexadecimal digit");
    }
  }
  return code;
}

void JsonCursor::append_escape(std::string& out) {
  const char c = next();
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
  if (const size_t i = kNames.find(c); i != std::string_view::npos) {
    out += kValues[i];
    return;
  }
  if (c != 'u') fail("known escape");
  uint32_t code = hex4();
  if (code >= 0xDC00 && code < 0xE000) fail("leading surrogate");
  if (code >= 0xD800 && code < 0xDC00) {
    if (next() != '\\' || next() != 'u') fail("trailing surrogate");
    const uint32_t low = hex4();
    if (low < 0xDC00 || low >= 0xE000) fail("trailing surrogate");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  append_utf8(out, code);
}

std::string JsonCursor::string() {
  expect('"');
  std::string out;
  for (char c = next(); c != '"'; c = next()) {
    if (static_cast<unsigned char>(c) < 0x20) fail("printable character");
    if (c == '\\') {
      append_escape(out);
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace pf::weights
