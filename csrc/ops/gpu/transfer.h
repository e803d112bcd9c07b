// Arrays that go between host and device in one copy: they lie side by side in pinned memory of the host and in memory
// of the device, at the same offsets.
//
//   Transfer arrays(runtime, memory, "arrays");
//   const size_t ids = arrays.add(bytes_of_ids), masks = arrays.add(bytes_of_masks);
//   arrays.reserve();                           // may move both sides
//   memcpy(arrays.host(ids), ...);
//   arrays.upload(stream);
//   launch(arrays.device(ids), ...);
#pragma once
#include <cstring>

#include "../../gpu/memory_pool.h"

namespace pf::gpu {

class Transfer {
 public:
  Transfer(Runtime& runtime, MemoryPool& memory, const char* name) : runtime_(runtime), memory_(memory), name_(name) {}
  ~Transfer() { discard(); }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // The place of an array of that size; places are valid for the next call of reserve().
  size_t add(size_t bytes) {
    const size_t place = used_;
    used_ += (bytes + 15) / 16 * 16;
    return place;
  }
  void clear() { used_ = 0; }
  size_t bytes() const { return used_; }

  // Makes room for all arrays. True when the device's side has moved; what it held is lost then.
  bool reserve() {
    if (used_ <= capacity_) return false;
    size_t wanted = 4096;
    while (wanted < used_) wanted *= 2;
    discard();
    host_ = static_cast<char*>(runtime_.allocate_host(wanted));
    device_ = static_cast<char*>(memory_.allocate(wanted, name_));
    capacity_ = wanted;
    return true;
  }

  template <class T>
  T* host(size_t place) const {
    return reinterpret_cast<T*>(host_ + place);
  }
  template <class T>
  T* device(size_t place) const {
    return reinterpret_cast<T*>(device_ + place);
  }

  void upload(size_t begin, size_t end, Stream stream) {
    if (end > begin) runtime_.copy_in(device_ + begin, host_ + begin, end - begin, stream);
  }
  void download(Stream stream) { runtime_.copy_out(host_, device_, used_, stream); }

 private:
  void discard() {
    if (host_ != nullptr) runtime_.release_host(host_);
    memory_.release(device_);
    host_ = device_ = nullptr;
    capacity_ = 0;
  }

  Runtime& runtime_;
  MemoryPool& memory_;
  const char* const name_;
  char* host_ = nullptr;
  char* device_ = nullptr;
  size_t used_ = 0, capacity_ = 0;
};

}  // namespace pf::gpu
