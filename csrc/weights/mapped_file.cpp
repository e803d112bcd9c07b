#include "weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "weights/format_error.h"

namespace pf::weights {
namespace {

[[noreturn]] void throw_errno(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) throw_errno(path);
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path) {
  const Descriptor file(path);
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) throw_errno(path);
  if (!S_ISREG(status.st_mode)) throw FormatError("it is not a regular file");
  if (status.st_size == 0) throw FormatError("the file is empty");
  const auto size = static_cast<size_t>(status.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) throw_errno(path);
  return std::shared_ptr<MappedFile>(new MappedFile(path, static_cast<uint8_t*>(data), size));
}

MappedFile::~MappedFile() { ::munmap(data_, size_); }

void MappedFile::drop(uint64_t offset, uint64_t nbytes) const {
  if (offset > size_ || nbytes > size_ - offset) throw std::out_of_range("range outside the mapped file");
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = offset / page * page;
  // Advice only: a kernel that refuses it costs memory, not correctness.
  if (nbytes > 0) ::madvise(data_ + begin, offset + nbytes - begin, MADV_DONTNEED);
}

}  // namespace pf::weights
