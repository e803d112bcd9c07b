#include "huge_pages.h"

#include <sys/mman.h>

#include <mutex>
#include <new>

namespace pf {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kSlabBytes = size_t{32} << 20;
constexpr size_t kOwnMapping = kSlabBytes / 2;  // pieces from here on get a mapping of their own
constexpr size_t kAlignment = 64;

constexpr size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// An anonymous mapping that begins at a multiple of 2 MiB. Pages are resident once they are written.
class Mapping {
 public:
  explicit Mapping(size_t bytes) : mapped_bytes_(round_up(bytes, 4096) + kHugePage) {
    mapped_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped_ == MAP_FAILED) throw std::bad_alloc();
    const size_t start = reinterpret_cast<uintptr_t>(mapped_) % kHugePage;
    base_ = static_cast<uint8_t*>(mapped_) + (start == 0 ? 0 : kHugePage - start);
    // Only whole huge pages, lest the tail of every matrix takes 2 MiB. A refusal costs speed only.
    madvise(base_, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  }
  ~Mapping() { munmap(mapped_, mapped_bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  uint8_t* base() const { return base_; }

 private:
  void* mapped_;
  size_t mapped_bytes_;
  uint8_t* base_;
};

struct Slab {
  Mapping mapping{kSlabBytes};
  size_t used = 0;
};

std::mutex slab_mutex;
std::weak_ptr<Slab> open_slab;  // takes the next small piece; owned by its pieces

}  // namespace

std::shared_ptr<uint8_t> allocate_weight_memory(size_t bytes) {
  if (bytes >= kOwnMapping) {
    const auto mapping = std::make_shared<Mapping>(bytes);
    return {mapping, mapping->base()};
  }
  const std::lock_guard lock(slab_mutex);
  std::shared_ptr<Slab> slab = open_slab.lock();
  if (slab == nullptr || slab->used + bytes > kSlabBytes) {
    slab = std::make_shared<Slab>();
    open_slab = slab;
  }
  uint8_t* const piece = slab->mapping.base() + slab->used;
  slab->used += round_up(bytes, kAlignment);
  return {slab, piece};
}

}  // namespace pf
