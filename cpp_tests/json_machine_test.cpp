#include "json/json_machine.h"

#include <gtest/gtest.h>

#include <random>

namespace pf::json {
namespace {

// An event with its text, as tests compare it.
struct Told {
  EventKind kind;
  uint64_t start, end;
  std::string text;
  friend bool operator==(const Told&, const Told&) = default;
};

std::ostream& operator<<(std::ostream& out, const Told& told) {
  return out << '(' << static_cast<int>(told.kind) << ' ' << told.start << ' ' << told.end << " \"" << told.text
             << "\")";
}

// Adds the machine's events to `all`, chunks that follow each other as one.
void collect(const JsonMachine& machine, std::vector<Told>& all) {
  for (const Event& event : machine.events()) {
    Told told{event.kind, event.start, event.end, std::string(machine.text(event))};
    if (told.kind == EventKind::kStringChunk && !all.empty() && all.back().kind == EventKind::kStringChunk) {
      EXPECT_EQ(all.back().end, told.start);
      all.back().end = told.end;
      all.back().text += told.text;
    } else {
      all.push_back(std::move(told));
    }
  }
}

struct Reading {
  std::vector<Told> events;
  std::optional<Fault> fault;
  std::vector<uint64_t> tolerated;
};

// Reads `text` in pieces whose sizes `next_size` gives.
template <typename NextSize>
Reading read(std::string_view text, const Options& options, NextSize next_size) {
  JsonMachine machine(options);
  Reading reading;
  bool good = true;
  while (good && !text.empty()) {
    const size_t size = std::min<size_t>(next_size(), text.size());
    good = machine.feed(text.substr(0, size));
    collect(machine, reading.events);
    text.remove_prefix(size);
  }
  if (good) {
    machine.finish();
    collect(machine, reading.events);
  }
  reading.fault = machine.fault();
  reading.tolerated = machine.tolerated();
  return reading;
}

Reading read(std::string_view text, const Options& options = {}) {
  return read(text, options, [&] { return text.size(); });
}

constexpr std::string_view kRich =
    "{\"a\\u00e9\\n\": [1, -2.5e3, true, null, NaN, -Infinity, {\"x\":\"y\\ud83d\\ude00z\xe6\xbc\xa2\xf0\x9f\x98\x80\","
    " \"\":\"\"}], \"b\":[], \"raw\":\"1\n2\"}";

TEST(JsonMachine, TellsWhatTheTextSays) {
  using enum EventKind;
  const std::vector<Told> expected = {
      {kObjectOpened, 0, 1, ""},
      {kKey, 1, 4, "a"},
      {kArrayOpened, 5, 6, ""},
      {kNumber, 6, 8, "-1"},
      {kLiteral, 9, 13, "true"},
      {kStringOpened, 14, 15, ""},
      {kStringChunk, 15, 25,
       "x\n"
       "\xc3\xa9z"},
      {kStringClosed, 14, 26, ""},
      {kArrayClosed, 5, 27, ""},
      {kObjectClosed, 0, 28, ""},
  };
  EXPECT_EQ(read("{\"a\":[-1,true,\"x\\n\\u00e9z\"]}").events, expected);
}

TEST(JsonMachine, AnyPiecesGiveTheSameEvents) {
  const Reading whole = read(kRich);
  ASSERT_FALSE(whole.fault) << whole.fault->message;
  EXPECT_EQ(whole.tolerated.size(), 1u);
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const Reading again = read(kRich, {}, [&] { return 1 + random() % (1 + round % 9); });
    ASSERT_FALSE(again.fault) << again.fault->message;
    EXPECT_EQ(again.events, whole.events);
    EXPECT_EQ(again.tolerated, whole.tolerated);
  }
}

TEST(JsonMachine, FaultsHaveTheSamePlaceAndEventsHoweverTheTextIsCut) {
  const std::string_view broken[] = {
      "x",         "{\"a\" 1",      "[1 2",         "[1,]",       "{\"a\":1,}",       "[}",   "{\"a\":1]", "[1]x",
      "\"ab\\q\"", "\"a\\ud800x\"", "\"a\\udc00\"", "\"ab\xff\"", "\"\xed\xa0\x80\"", "truf", "01"};
  for (const std::string_view text : broken) {
    const Reading whole = read(text);
    ASSERT_TRUE(whole.fault) << text;
    EXPECT_EQ(whole.fault->kind, FaultKind::kUnexpected) << text;
    EXPECT_LT(whole.fault->position, text.size()) << text;
    const Reading again = read(text, {}, [] { return 1; });
    ASSERT_TRUE(again.fault) << text;
    EXPECT_EQ(again.fault->message, whole.fault->message);
    EXPECT_EQ(again.events, whole.events) << text;
  }
  EXPECT_EQ(read("[1,]").fault->message, "unexpected ']' at byte 3 of the answer: expected a value");
}

TEST(JsonMachine, AFaultLastsAndATextThatEndedTooEarlyMayGoOn) {
  JsonMachine machine;
  EXPECT_TRUE(machine.feed("[1"));
  EXPECT_FALSE(machine.finish());
  EXPECT_EQ(machine.fault()->kind, FaultKind::kTooEarly);
  EXPECT_TRUE(machine.feed("2]"));
  EXPECT_TRUE(machine.finish());
  EXPECT_TRUE(machine.complete());
  EXPECT_FALSE(machine.feed("x"));
  EXPECT_FALSE(machine.feed(" "));
  EXPECT_TRUE(machine.events().empty());
}

TEST(JsonMachine, StrictnessRefusesWhatJsonForbids) {
  const Options strict{Then::kNothing, true};
  EXPECT_EQ(read("\"a\nb\"", strict).fault->position, 2u);
  EXPECT_TRUE(read("NaN", strict).fault);
  EXPECT_FALSE(read("\"a\\nb\"", strict).fault);
}

TEST(JsonMachine, WhatMayFollowAValue) {
  EXPECT_FALSE(read("{} \"x", {Then::kAnything}).fault);
  const Reading values = read("{} [1],2\n\"x\"", {Then::kValues});
  EXPECT_FALSE(values.fault);
  EXPECT_EQ(values.events.size(), 9u);
  EXPECT_FALSE(read("", {Then::kValues}).fault);
  EXPECT_EQ(read("").fault->kind, FaultKind::kTooEarly);
}

TEST(JsonMachine, NestingIsBounded) {
  EXPECT_EQ(read(std::string(200, '[')).fault->kind, FaultKind::kTooEarly);
  const Reading deep = read(std::string(10000, '['));
  EXPECT_EQ(deep.fault->kind, FaultKind::kTooDeep);
  EXPECT_EQ(deep.fault->position, 200u);
  EXPECT_EQ(deep.events.size(), 200u);
}

TEST(JsonMachine, ACopyGoesOnFromWhereTheOriginalStood) {
  const Reading whole = read(kRich);
  for (size_t at = 0; at <= kRich.size(); ++at) {
    JsonMachine machine;
    std::vector<Told> events;
    ASSERT_TRUE(machine.feed(kRich.substr(0, at)));
    collect(machine, events);
    JsonMachine copy = machine;
    machine.feed("\x01\x02 other text");
    ASSERT_TRUE(copy.feed(kRich.substr(at))) << at;
    collect(copy, events);
    EXPECT_TRUE(copy.finish());
    EXPECT_EQ(events, whole.events) << at;
    EXPECT_EQ(copy.depth(), 0u);
    EXPECT_EQ(copy.offset(), kRich.size());
  }
}

TEST(JsonMachine, RandomBytesNeverBreakIt) {
  std::mt19937 random(7);
  const std::string_view alphabet = "{}[]:,\"\\u0dD8cC1-+.eEtrufalsn \n\x01\x7f\x80\xc2\xe0\xed\xf0\xf4\xa0\x90\xff";
  for (int round = 0; round < 20000; ++round) {
    std::string text(random() % 2 ? "\"" : "[");
    for (size_t length = random() % 24; length > 0; --length) text += alphabet[random() % alphabet.size()];
    const Reading whole = read(text);
    const Reading again = read(text, {}, [] { return 1; });
    ASSERT_EQ(again.events, whole.events) << text;
    ASSERT_EQ(again.fault.has_value(), whole.fault.has_value()) << text;
    if (!whole.fault) continue;
    ASSERT_EQ(again.fault->message, whole.fault->message) << text;
  }
}

}  // namespace
}  // namespace pf::json
