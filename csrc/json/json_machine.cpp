#include "json/json_machine.h"

#include <cstdio>
#include <utility>

namespace pf::json {
namespace {

bool is_plain(uint8_t byte) { return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\'; }

// The value of hexadecimal digits, which the automaton has let pass.
uint32_t hex(std::string_view digits) {
  uint32_t value = 0;
  for (const char digit : digits) {
    value = value * 16 + static_cast<uint32_t>(digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
  }
  return value;
}

// A byte as messages show it: as Python writes a string of it, or as a number.
std::string shown(uint8_t byte) {
  if (byte == '\'') return "\"'\"";
  if (byte == '\\') return "'\\\\'";
  if (byte >= 0x20 && byte < 0x7F) return std::string("'") + static_cast<char>(byte) + "'";
  char text[24];
  std::snprintf(text, sizeof text, "the byte 0x%02X", byte);
  return text;
}

}  // namespace

JsonMachine::JsonMachine(const Options& options)
    : options_(options),
      last_(options.then == Then::kValues ? State::kBetween : State::kEnd),
      after_(last_),
      state_(options.then == Then::kValues ? State::kBetween : State::kStart),
      offset_(options.offset) {}

bool JsonMachine::feed(std::string_view bytes) {
  events_.clear();
  texts_.clear();
  if (fault_ && fault_->kind == FaultKind::kTooEarly) fault_.reset();  // it goes on after all
  if (fault_) return false;
  const uint64_t end = offset_ + bytes.size();
  for (size_t at = 0; at < bytes.size();) {
    if (state_ == State::kString) {  // a run that the automaton would take byte by byte, staying where it is
      size_t run = at;
      while (run < bytes.size() && is_plain(static_cast<uint8_t>(bytes[run]))) ++run;
      pending_.append(bytes.substr(at, run - at));
      offset_ += run - at;
      at = run;
      if (at == bytes.size()) break;
    }
    if (!step(static_cast<uint8_t>(bytes[at]))) {
      if (fault_) return false;
      offset_ = end;  // what follows is ignored
      return true;
    }
    ++offset_;
    ++at;
  }
  const bool in_unit = kInUnit[static_cast<size_t>(state_)];
  if ((state_ == State::kString || in_unit) && !in_key_) end_chunk(in_unit ? unit_ : offset_);
  return true;
}

bool JsonMachine::finish() {
  events_.clear();
  texts_.clear();
  if (fault_) return false;
  if (kEndsNumber[static_cast<size_t>(state_)] && stack_.empty()) {
    emit_text(EventKind::kNumber, mark_, offset_);
    state_ = last_;
  }
  if (complete()) return true;
  const char* wanted = kExpected[static_cast<size_t>(state_)];
  return fail(FaultKind::kTooEarly, offset_,
              "the text ends at byte " + std::to_string(offset_) + ", where " + wanted + " is expected");
}

// Takes one byte. False at a fault, and for a byte after the value that is to be ignored.
bool JsonMachine::step(uint8_t byte) {
  const Transition transition = kTransitions[static_cast<size_t>(state_)][kByteClass[byte]];
  const State next = static_cast<State>(transition.state);
  switch (static_cast<Action>(transition.action)) {
    case Action::kNone: {
      const bool was_string = state_ == State::kString;
      state_ = next;
      if (was_string) {  // plain bytes never come here: a unit begins
        unit_ = offset_;
        unit_bytes_.assign(1, static_cast<char>(byte));
      } else if (kInUnit[static_cast<size_t>(next)]) {
        unit_bytes_.push_back(static_cast<char>(byte));
      } else if (next == State::kString) {  // a character of several bytes is complete
        pending_.append(unit_bytes_).push_back(static_cast<char>(byte));
      } else if (kInScalar[static_cast<size_t>(next)]) {
        pending_.push_back(static_cast<char>(byte));
      }
      return true;
    }
    case Action::kOpenObject:
    case Action::kOpenArray: {
      if (stack_.size() >= options_.max_depth) {
        return fail(FaultKind::kTooDeep, offset_,
                    "more than " + std::to_string(options_.max_depth) + " containers are open at byte " +
                        std::to_string(offset_));
      }
      const bool object = static_cast<Action>(transition.action) == Action::kOpenObject;
      open(object ? EventKind::kObjectOpened : EventKind::kArrayOpened, next,
           object ? State::kObjectAfter : State::kArrayAfter);
      return true;
    }
    case Action::kCloseObject:
      close(EventKind::kObjectClosed);
      return true;
    case Action::kCloseArray:
      close(EventKind::kArrayClosed);
      return true;
    case Action::kOpenKey:
    case Action::kOpenString:
      in_key_ = static_cast<Action>(transition.action) == Action::kOpenKey;
      mark_ = offset_;
      chunk_ = offset_ + 1;
      if (!in_key_) emit(EventKind::kStringOpened, mark_, chunk_);
      state_ = next;
      return true;
    case Action::kEndString:
      if (in_key_) {
        emit_text(EventKind::kKey, mark_, offset_ + 1);
        state_ = State::kObjectColon;
      } else {
        end_chunk(offset_);
        emit(EventKind::kStringClosed, mark_, offset_ + 1);
        state_ = after_;
      }
      return true;
    case Action::kTolerate:
      if (options_.strict) return refuse(byte);
      tolerated_.push_back(offset_);
      pending_.push_back(static_cast<char>(byte));
      return true;
    case Action::kEndEscape:
      for (const Escape& escape : kEscapes) {
        if (escape.letter == static_cast<char>(byte)) pending_.push_back(escape.byte);
      }
      state_ = next;
      return true;
    case Action::kEndCode:
      unit_bytes_.push_back(static_cast<char>(byte));
      append_code_point(hex(std::string_view(unit_bytes_).substr(2)));
      state_ = next;
      return true;
    case Action::kEndPair: {  // \uHHHH\uLLLL
      unit_bytes_.push_back(static_cast<char>(byte));
      const uint32_t high = hex(std::string_view(unit_bytes_).substr(2, 4));
      const uint32_t low = hex(std::string_view(unit_bytes_).substr(8));
      append_code_point(0x10000 + (high - 0xD800) * 0x400 + (low - 0xDC00));
      state_ = next;
      return true;
    }
    case Action::kOpenScalar:
      mark_ = offset_;
      pending_.assign(1, static_cast<char>(byte));
      state_ = next;
      return true;
    case Action::kEndNumber:
      emit_text(EventKind::kNumber, mark_, offset_);
      state_ = after_;
      return step(byte);  // the byte that ended it is read again, in a state that is no number's
    case Action::kEndNonfinite:
    case Action::kEndLiteral:
      if (options_.strict && static_cast<Action>(transition.action) == Action::kEndNonfinite) return refuse(byte);
      pending_.push_back(static_cast<char>(byte));
      emit_text(EventKind::kLiteral, mark_, offset_ + 1);
      state_ = after_;
      return true;
    case Action::kRefuse:
      break;
  }
  if (state_ == State::kEnd && options_.then == Then::kAnything) return false;
  return refuse(byte);
}

// An event with the pending text.
void JsonMachine::emit_text(EventKind kind, uint64_t start, uint64_t end) {
  events_.push_back({kind, start, end, texts_.size(), pending_.size()});
  texts_ += pending_;
  pending_.clear();
}

// Tells the text of the current string that came before `end`, if there is any untold.
void JsonMachine::end_chunk(uint64_t end) {
  if (!pending_.empty()) emit_text(EventKind::kStringChunk, chunk_, end);
  chunk_ = end;
}

void JsonMachine::open(EventKind kind, State first, State after) {
  stack_.push_back({offset_, after_});
  emit(kind, offset_, offset_ + 1);
  after_ = after;
  state_ = first;
}

void JsonMachine::close(EventKind kind) {
  emit(kind, stack_.back().start, offset_ + 1);
  state_ = after_ = stack_.back().after;
  stack_.pop_back();
}

bool JsonMachine::refuse(uint8_t byte) {
  const bool in_unit = kInUnit[static_cast<size_t>(state_)];
  if ((state_ == State::kString || in_unit) && !in_key_) end_chunk(in_unit ? unit_ : offset_);
  return fail(FaultKind::kUnexpected, offset_,
              "unexpected " + shown(byte) + " at byte " + std::to_string(offset_) + " of the answer: expected " +
                  kExpected[static_cast<size_t>(state_)]);
}

bool JsonMachine::fail(FaultKind kind, uint64_t position, std::string message) {
  fault_ = Fault{kind, position, std::move(message)};
  return false;
}

void JsonMachine::append_code_point(uint32_t code) {
  const auto put = [this](uint32_t byte) { pending_.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

}  // namespace pf::json
