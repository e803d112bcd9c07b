// The little of JSON that a safetensors header uses: objects, strings and unsigned integers. Strict, no recursion.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace pf::weights {

// Walks untrusted JSON text from front to back. Each method throws FormatError when the text is something else.
class JsonCursor {
 public:
  explicit JsonCursor(std::string_view text) : text_(text) {}

  // Skips whitespace, then consumes `c` if it comes next.
  bool accept(char c);
  void expect(char c);
  // After whitespace, nothing may be left.
  void expect_end();

  // A string as UTF-8, escapes resolved. Whether raw bytes are valid UTF-8 is left to the reader of the string.
  std::string string();
  // An unsigned integer without sign, fraction or exponent, that fits 64 bits.
  uint64_t integer();

  // Calls `member(key)` for each member of an object; `member` must consume the value.
  template <typename Member>
  void object(Member member) {
    list('{', '}', [&] {
      const std::string key = string();
      expect(':');
      member(key);
    });
  }

  // Calls `item()` for each item of an array; `item` must consume it.
  template <typename Item>
  void array(Item item) {
    list('[', ']', item);
  }

 private:
  template <typename Item>
  void list(char open, char close, Item item) {
    expect(open);
    if (accept(close)) return;
    do {
      item();
    } while (accept(','));
    expect(close);
  }

  void skip_space();
  char next();
  uint32_t hex4();
  void append_escape(std::string& out);
  [[noreturn]] void fail(const char* expected) const;

  std::string_view text_;
  size_t position_ = 0;
};

}  // namespace pf::weights
