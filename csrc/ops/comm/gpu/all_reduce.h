// The sum over the ranks of one machine, by kernels that read each other's memory (peer access): for the small messages
// of decoding, where NCCL's latency would rule. All ranks add in the order of the ranks and get the same bits.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

constexpr int kMaxRanks = 8;
constexpr int kAllReduceBlocks = 36;  // at most; all of a rank's run at once, as they wait for each other's
// Words of a rank's flags: one for each block and rank, and how often each block has met the others.
constexpr int kAllReduceFlags = kAllReduceBlocks * (kMaxRanks + 1);

template <class T>
struct AllReduceArgs {
  const T* in[kMaxRanks];      // [n] of each rank; what is to be added
  T* out[kMaxRanks];           // [n] of each rank; of the ranks launched here only. Not in
  T* scratch[kMaxRanks];       // [n] of each rank, for two shots
  uint32_t* flags[kMaxRanks];  // [kAllReduceFlags] of each rank; zeros at first, then left alone
  int64_t n;                   // a multiple of 16 bytes' elements
  int ranks;
  int rank;  // of this device
};

enum class AllReduce {
  kOneShot,  // every rank reads all of every rank: one meeting of latency, for up to some hundred KiB
  kTwoShot,  // every rank adds its part, then reads the others' sums: 2 n instead of ranks * n elements read
};

// One call on each rank, all of the same kind and size and in the same order; may be captured. A rank's `in` can be
// overwritten once its own call has ended. Throws std::invalid_argument for sizes that it cannot do. `ranks_here`: more
// than one where one launch plays several ranks, from args.rank on, as the emulator's tests do. T: float, f16, bf16.
template <class T>
void all_reduce(const AllReduceArgs<T>& args, AllReduce kind, Stream stream, int ranks_here = 1);

}  // namespace pf::gpu
