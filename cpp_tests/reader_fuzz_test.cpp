// Hostile files: whatever the bytes are, a reader returns a header that holds its promises, or throws FormatError.
// PAGEFORM_FUZZ_ROUNDS sets the number of mutated files a reader (default 20,000); run it long under ASan and UBSan.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <random>

#include "weight_files.h"
#include "weights/gguf.h"
#include "weights/safetensors.h"

namespace pf::weights {
namespace {

using testing::Bytes;

int rounds() {
  const char* text = std::getenv("PAGEFORM_FUZZ_ROUNDS");
  return text != nullptr ? std::atoi(text) : 20'000;
}

// What every accepted header promises. Touches the last byte of each tensor, so that ASan sees a wrong bound.
void check_tensors(const std::vector<TensorInfo>& tensors, const Bytes& file) {
  for (const TensorInfo& tensor : tensors) {
    if (tensor.nbytes == 0) continue;
    ASSERT_LE(tensor.offset, file.size());
    ASSERT_LE(tensor.nbytes, file.size() - tensor.offset);
    const volatile uint8_t last = file[tensor.offset + tensor.nbytes - 1];
    static_cast<void>(last);
  }
}

bool accepts_gguf(const Bytes& file) {
  try {
    const GgufHeader header = GgufHeader::parse(file);
    check_tensors(header.tensors, file);
    for (const GgufEntry& entry : header.metadata) {
      ByteReader reader(file, entry.offset);
      if (entry.type != GgufType::kString) continue;
      for (uint64_t i = 0; i < entry.count; ++i) read_gguf_string(reader);
    }
    return true;
  } catch (const FormatError&) {
    return false;
  }
}

bool accepts_safetensors(const Bytes& file) {
  try {
    check_tensors(SafetensorsHeader::parse(file).tensors, file);
    return true;
  } catch (const FormatError&) {
    return false;
  }
}

using Accepts = std::function<bool(const Bytes&)>;

// A copy of `seed` with a few of: a flipped bit, an interesting value, a removed, repeated or random run of bytes.
Bytes mutate(const Bytes& seed, std::mt19937_64& random) {
  constexpr uint64_t kInteresting[] = {0,    1,      7,        8,          0x7f,       0x80,
                                       0xff, 0xffff, 1u << 31, UINT32_MAX, 1ull << 63, UINT64_MAX};
  Bytes file = seed;
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % std::max<size_t>(n, 1)); };
  for (size_t edits = 1 + below(4); edits > 0 && !file.empty(); --edits) {
    const size_t at = below(file.size());
    const size_t length = std::min(1 + below(16), file.size() - at);
    const auto begin = file.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(5)) {
      case 0:
        file[at] ^= static_cast<uint8_t>(1u << below(8));
        break;
      case 1:
        std::memcpy(&file[at], &kInteresting[below(std::size(kInteresting))], std::min<size_t>(length, 8));
        break;
      case 2:
        file.erase(begin, begin + static_cast<std::ptrdiff_t>(length));
        break;
      case 3: {
        const Bytes run(begin, begin + static_cast<std::ptrdiff_t>(length));
        file.insert(begin, run.begin(), run.end());
        break;
      }
      default:
        for (size_t i = 0; i < length; ++i) file[at + i] = static_cast<uint8_t>(random());
    }
  }
  file.shrink_to_fit();  // an overrun must leave the allocation
  return file;
}

void fuzz(const Bytes& seed, const Accepts& accepts) {
  ASSERT_TRUE(accepts(seed));
  for (size_t length = 0; length < seed.size(); ++length) {
    Bytes cut(seed.begin(), seed.begin() + static_cast<std::ptrdiff_t>(length));
    cut.shrink_to_fit();
    EXPECT_FALSE(accepts(cut)) << "accepted after " << length << " of " << seed.size() << " bytes";
  }
  std::mt19937_64 random(20250101);
  int accepted = 0;
  for (int i = 0; i < rounds(); ++i) accepted += accepts(mutate(seed, random)) ? 1 : 0;
  // Both outcomes occur, so the mutations reach past the first check without all being harmless.
  EXPECT_GT(accepted, rounds() / 1000);
  EXPECT_LT(accepted, rounds());
  for (int i = 0; i < rounds() / 10; ++i) {
    Bytes noise(random() % 200);
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
    accepts(noise);
  }
}

TEST(ReaderFuzz, Gguf) { fuzz(testing::small_gguf(), accepts_gguf); }

TEST(ReaderFuzz, Safetensors) { fuzz(testing::small_safetensors(), accepts_safetensors); }

}  // namespace
}  // namespace pf::weights
