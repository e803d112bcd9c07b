// Records what a transaction changes, so that it can be taken back at a cost proportional to the changes alone.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace pf {

// Every mutation of journaled state goes through `set`, `push_back`, `pop_back` or `assign`. The words and vectors must
// keep their addresses until the transaction ends. Outside a transaction nothing is recorded.
class UndoLog {
 public:
  bool active() const { return active_; }
  void begin() { active_ = true; }
  void commit() {
    records_.clear();
    active_ = false;
  }
  void rollback() {
    for (auto record = records_.rbegin(); record != records_.rend(); ++record) record->undo();
    commit();
  }

  template <class T>
  void set(T& word, std::type_identity_t<T> value) {
    static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
    if (active_) {
      Record record{sizeof(T) == 4 ? Kind::kWord32 : Kind::kWord64, 0, &word, 0};
      std::memcpy(&record.value, &word, sizeof(T));
      records_.push_back(record);
    }
    word = value;
  }
  void push_back(std::vector<int32_t>& list, int32_t value) {
    if (active_) records_.push_back({Kind::kPush, 0, &list, 0});
    list.push_back(value);
  }
  void pop_back(std::vector<int32_t>& list) {
    if (active_) records_.push_back({Kind::kPop, 0, &list, static_cast<uint32_t>(list.back())});
    list.pop_back();
  }
  void assign(std::vector<int32_t>& list, uint32_t index, int32_t value) {
    if (active_) records_.push_back({Kind::kAssign, index, &list, static_cast<uint32_t>(list[index])});
    list[index] = value;
  }

 private:
  enum class Kind : uint32_t { kWord32, kWord64, kPush, kPop, kAssign };
  struct Record {
    Kind kind;
    uint32_t index;
    void* where;
    uint64_t value;

    void undo() const {
      auto* list = static_cast<std::vector<int32_t>*>(where);
      switch (kind) {
        case Kind::kWord32:
          std::memcpy(where, &value, 4);
          break;
        case Kind::kWord64:
          std::memcpy(where, &value, 8);
          break;
        case Kind::kPush:
          list->pop_back();
          break;
        case Kind::kPop:
          list->push_back(static_cast<int32_t>(value));
          break;
        case Kind::kAssign:
          (*list)[index] = static_cast<int32_t>(value);
          break;
      }
    }
  };
  std::vector<Record> records_;
  bool active_ = false;
};

}  // namespace pf
