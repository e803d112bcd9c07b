// The incremental JSON machine: bytes in, field events out, in any pieces, O(1) a byte. It runs on the same table as
// the Python one (python/pageform/structured/json_machine.py) and gives the same events for the same pieces.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json/json_table.h"

namespace pf::json {

// Something that the text says, and the bytes of the stream that say it, from `start` to before `end`. Closing events
// span the whole container or string.
struct Event {
  EventKind kind;
  uint64_t start, end;
  size_t text_begin, text_size;  // see JsonMachine::text
};

enum class FaultKind : uint8_t { kUnexpected, kTooDeep, kTooEarly };

// Why the text is not JSON, and the number of bytes before the fault.
struct Fault {
  FaultKind kind;
  uint64_t position;
  std::string message;
};

// What may follow the value: nothing, anything (it is ignored), or more values with space or commas between them.
enum class Then : uint8_t { kNothing, kAnything, kValues };

struct Options {
  Then then = Then::kNothing;
  // Refuses what JSON forbids and a reader would understand: raw control characters in strings, NaN and Infinity.
  bool strict = false;
  size_t max_depth = kMaxDepth;
  uint64_t offset = 0;  // of the first byte
};

// Reads JSON text in pieces of any size, also ones that end inside a character, an escape or a number.
//
//   JsonMachine machine;
//   machine.feed(R"({"name": "A)");
//   for (const Event& event : machine.events()) use(event.kind, machine.text(event));
//
// A value: a copy goes on from where the original stood, which is how a caller goes back. Memory is that of the
// nesting, of the current key or number, and of the events of one piece. Not for several threads at once.
class JsonMachine {
 public:
  explicit JsonMachine(const Options& options = {});

  // Reads on; false once the text is not JSON. The events of these bytes, up to a fault, replace the earlier ones.
  bool feed(std::string_view bytes);
  // The text ends: a number at the top is complete now. False if a value is open or none came.
  bool finish();

  const std::vector<Event>& events() const { return events_; }
  // The unescaped content of a key or of a chunk of a string, or a number or literal as it stands, in UTF-8. Valid
  // until the next call of `feed` or `finish`.
  std::string_view text(const Event& event) const {
    return std::string_view(texts_).substr(event.text_begin, event.text_size);
  }

  const std::optional<Fault>& fault() const { return fault_; }
  // Whether no value is open. A number at the top ends only with the byte after it, or with `finish`.
  bool complete() const { return state_ == State::kEnd || state_ == State::kBetween; }
  // How many containers are open.
  size_t depth() const { return stack_.size(); }
  // Of the next byte.
  uint64_t offset() const { return offset_; }
  // Offsets of the control characters that stood in strings as they are, ascending.
  const std::vector<uint64_t>& tolerated() const { return tolerated_; }

 private:
  struct Open {
    uint64_t start;
    State after;  // of the values around it
  };

  bool step(uint8_t byte);
  void emit(EventKind kind, uint64_t start, uint64_t end) { events_.push_back({kind, start, end, texts_.size(), 0}); }
  void emit_text(EventKind kind, uint64_t start, uint64_t end);
  void end_chunk(uint64_t end);
  void open(EventKind kind, State first, State after);
  void close(EventKind kind);
  bool refuse(uint8_t byte);
  bool fail(FaultKind kind, uint64_t position, std::string message);
  void append_code_point(uint32_t code);

  Options options_;
  State last_;   // after a value at the top
  State after_;  // after a value that ends now
  State state_;
  std::vector<Open> stack_;
  uint64_t offset_;
  uint64_t mark_ = 0;   // where the current string, key, number or word began
  uint64_t chunk_ = 0;  // where the text began that no event has told yet
  uint64_t unit_ = 0;   // where the current escape or character of several bytes began
  bool in_key_ = false;
  std::string pending_;     // text that no event has told yet
  std::string unit_bytes_;  // of the current escape or character
  std::vector<Event> events_;
  std::string texts_;
  std::vector<uint64_t> tolerated_;
  std::optional<Fault> fault_;
};

}  // namespace pf::json
