// A whole file mapped read-only into memory. Pages are read on first touch and can be handed back with `drop`.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace pf::weights {

class MappedFile {
 public:
  // Throws std::system_error when the path can't be opened or mapped, FormatError when it is empty or no regular file.
  static std::shared_ptr<MappedFile> open(const std::string& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const uint8_t> bytes() const { return {data_, size_}; }

  // Tells the kernel that bytes [offset, offset + nbytes) are not needed now, so that they stop counting as resident.
  // The range is widened to whole pages; touching them again reads them from the file. Throws std::out_of_range.
  void drop(uint64_t offset, uint64_t nbytes) const;

 private:
  MappedFile(std::string path, uint8_t* data, size_t size) : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  uint8_t* data_;
  size_t size_;
};

}  // namespace pf::weights
