#include "memory_pool.h"

#include <algorithm>
#include <stdexcept>

namespace pf::gpu {
namespace {

constexpr size_t kAlignment = 256;

size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

MemoryPool::~MemoryPool() {
  for (const auto& [begin, piece] : pieces_) {
    if (piece.begins_slab) runtime_.release(begin);
  }
}

char* MemoryPool::reserve(size_t bytes, const char* name) {
  char* memory = nullptr;
  try {
    memory = static_cast<char*>(runtime_.allocate(bytes, name));
  } catch (const std::runtime_error&) {
    if (free_.empty()) throw;
    trim();
    memory = static_cast<char*>(runtime_.allocate(bytes, name));
  }
  stats_.reserved += bytes;
  return memory;
}

void* MemoryPool::allocate(size_t bytes, const char* name) {
  const bool alone = slab_bytes_ == 0 || bytes > slab_bytes_ / 2;
  // The emulator reports reads past the very end, so memory that is not cut has the size that was asked for.
  const size_t wanted = alone ? std::max<size_t>(bytes, 1) : rounded(bytes);
  const auto fit = alone ? free_.end() : free_.lower_bound({wanted, nullptr});
  Pieces::iterator piece;
  if (fit != free_.end()) {
    piece = pieces_.find(fit->second);
    free_.erase(fit);
  } else {
    const size_t size = alone ? wanted : slab_bytes_;
    piece = pieces_.insert({reserve(size, name), {size, true, true}}).first;
  }
  if (!alone) cut(piece, wanted);
  piece->second.free = false;
  stats_.used += piece->second.bytes;
  stats_.most_used = std::max(stats_.most_used, stats_.used);
  return piece->first;
}

void MemoryPool::cut(Pieces::iterator piece, size_t bytes) {
  const size_t rest = piece->second.bytes - bytes;
  if (rest < kAlignment) return;
  piece->second.bytes = bytes;
  char* const begin = piece->first + bytes;
  pieces_.insert({begin, {rest, true, false}});
  free_.insert({rest, begin});
}

void MemoryPool::join_with_next(Pieces::iterator piece) {
  const auto next = std::next(piece);
  if (next == pieces_.end() || !next->second.free || next->second.begins_slab) return;
  free_.erase({next->second.bytes, next->first});
  piece->second.bytes += next->second.bytes;
  pieces_.erase(next);
}

void MemoryPool::release(void* memory) {
  if (memory == nullptr) return;
  auto piece = pieces_.find(static_cast<char*>(memory));
  if (piece == pieces_.end() || piece->second.free) {
    throw std::invalid_argument("the memory pool did not hand out what it is to take back");
  }
  stats_.used -= piece->second.bytes;
  piece->second.free = true;
  join_with_next(piece);
  if (!piece->second.begins_slab && std::prev(piece)->second.free) {
    piece = std::prev(piece);
    free_.erase({piece->second.bytes, piece->first});
    join_with_next(piece);
  }
  free_.insert({piece->second.bytes, piece->first});
  // Large memory is of one use: a model's weights are not loaded twice.
  if (is_whole_slab(piece) && piece->second.bytes != slab_bytes_) {
    stats_.reserved -= piece->second.bytes;
    free_.erase({piece->second.bytes, piece->first});
    runtime_.release(piece->first);
    pieces_.erase(piece);
  }
}

bool MemoryPool::is_whole_slab(Pieces::const_iterator piece) const {
  if (!piece->second.begins_slab) return false;
  const auto next = std::next(piece);
  return next == pieces_.end() || next->second.begins_slab;
}

void MemoryPool::trim() {
  for (auto piece = pieces_.begin(); piece != pieces_.end();) {
    if (!piece->second.free || !is_whole_slab(piece)) {
      ++piece;
      continue;
    }
    stats_.reserved -= piece->second.bytes;
    free_.erase({piece->second.bytes, piece->first});
    runtime_.release(piece->first);
    piece = pieces_.erase(piece);
  }
}

}  // namespace pf::gpu
