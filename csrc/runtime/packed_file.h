// Packed weights in a file: each a range of bytes with a checksum. What else stands in the file is the caller's affair.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "device.h"

namespace pf {

// A weight in a file: what it was packed from (without data), where its bytes begin, and the sum of them.
struct SavedWeight {
  std::vector<PfWeightPart> parts;
  uint64_t offset;
  uint64_t sum;
};

// Writes the packed bytes of a weight to an open file from `offset` on. Returns their sum. std::system_error when the
// file can't take them, BackendError when the device's backend saves no weights.
uint64_t save_weight(const Weight& weight, int file, uint64_t offset);

// Reads weights back, several at once on as many threads as the device has. std::invalid_argument when the file is too
// short or bytes are not those that were saved, std::system_error when it can't be read, BackendError when the backend
// restores no weights.
std::vector<std::shared_ptr<Weight>> restore_weights(const std::shared_ptr<Device>& device, int file,
                                                     const std::vector<SavedWeight>& saved);

// The sum of bytes that lie at `offset`, a multiple of 16, of a weight: sums of pieces add up, in any order. It tells
// damage, not malice.
uint64_t checksum(const void* data, uint64_t offset, uint64_t bytes);

}  // namespace pf
