#include "packed_file.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#include "errors.h"

namespace pf {
namespace {

// Both halves of the product: each bit of the result hangs on all bits of both numbers.
uint64_t mixed(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// One weight's range of a file, and what became of it.
struct Transfer {
  int file;
  uint64_t start;
  std::atomic<uint64_t> sum{0};
  std::atomic<int> error{0};  // errno, or kEndOfFile
};
constexpr int kEndOfFile = -1;

template <class Move, class Pointer>
int move_all(Transfer& transfer, Move move, Pointer data, size_t offset, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t count =
        move(transfer.file, data + done, bytes - done, static_cast<off_t>(transfer.start + offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      transfer.error.store(count < 0 ? errno : kEndOfFile);
      return 1;
    }
    done += static_cast<size_t>(count);
  }
  transfer.sum.fetch_add(checksum(data, offset, bytes), std::memory_order_relaxed);
  return 0;
}

int read_piece(void* ctx, void* to, size_t offset, size_t bytes) {
  return move_all(*static_cast<Transfer*>(ctx), ::pread, static_cast<char*>(to), offset, bytes);
}

int write_piece(void* ctx, const void* from, size_t offset, size_t bytes) {
  return move_all(*static_cast<Transfer*>(ctx), ::pwrite, static_cast<const char*>(from), offset, bytes);
}

void throw_errno(int error, const char* doing) {
  if (error > 0) throw std::system_error(error, std::generic_category(), doing);
}

std::shared_ptr<Weight> restore(const std::shared_ptr<Device>& device, int file, const SavedWeight& saved,
                                size_t number) {
  Transfer transfer{.file = file, .start = saved.offset};
  std::shared_ptr<Weight> weight;
  try {
    weight = std::make_shared<Weight>(device, saved.parts, read_piece, &transfer);
  } catch (const BackendError&) {
    throw_errno(transfer.error.load(), "reading packed weights");
    if (transfer.error.load() == kEndOfFile) refuse("the file ends within weight ", number);
    throw;
  }
  if (transfer.sum.load() != saved.sum) refuse("the bytes of weight ", number, " are not those that were saved");
  return weight;
}

}  // namespace

uint64_t checksum(const void* data, uint64_t offset, uint64_t bytes) {
  constexpr uint64_t kFirst = 0x9e3779b97f4a7c15u, kSecond = 0xc2b2ae3d27d4eb4fu;
  const auto* at = static_cast<const uint8_t*>(data);
  uint64_t sum = 0;
  for (; bytes > 0; offset += 16) {
    uint64_t words[2] = {};
    const uint64_t taken = bytes < 16 ? bytes : 16;
    std::memcpy(words, at, taken);
    sum += mixed(words[0] ^ (kFirst + offset), words[1] ^ kSecond);
    at += taken;
    bytes -= taken;
  }
  return sum;
}

uint64_t save_weight(const Weight& weight, int file, uint64_t offset) {
  const Device& device = weight.device();
  if (device.backend().weight_save == nullptr) throw BackendError("the backend saves no weights");
  Transfer transfer{.file = file, .start = offset};
  const int code = device.backend().weight_save(device.handle(), weight.handle(), write_piece, &transfer);
  throw_errno(transfer.error.load(), "writing packed weights");
  device.check(code, "saving a weight");
  return transfer.sum.load();
}

std::vector<std::shared_ptr<Weight>> restore_weights(const std::shared_ptr<Device>& device, int file,
                                                     const std::vector<SavedWeight>& saved) {
  if (device->backend().weight_restore == nullptr) throw BackendError("the backend restores no weights");
  std::vector<std::shared_ptr<Weight>> weights(saved.size());
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      for (size_t i = next++; i < saved.size(); i = next++) weights[i] = restore(device, file, saved[i], i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      next = saved.size();
    }
  };
  // Not the device's own threads: those share out one weight at a time, and each must have had its turn before the next
  // weight is begun, for which they wait long where another thread of the process has the processor.
  const int wanted = device->backend().device_threads(device->handle());
  std::vector<std::jthread> helpers;
  for (int i = 1; i < wanted && static_cast<size_t>(i) < saved.size(); ++i) helpers.emplace_back(work);
  work();
  helpers.clear();  // joins them
  if (failure) std::rethrow_exception(failure);
  return weights;
}

}  // namespace pf
