#include <stdexcept>
#include <string>

#include "all_reduce.h"
#include "all_reduce_block.h"

namespace pf::gpu {
namespace {

template <class T>
GPU_KERNEL(kAllReduceThreads)
void all_reduce_kernel(AllReduceArgs<T> args, AllReduce kind) {
  all_reduce_block(args, kind, args.rank + static_cast<int>(block_y()));
}

}  // namespace

template <class T>
void all_reduce(const AllReduceArgs<T>& args, AllReduce kind, Stream stream, int ranks_here) {
  if (args.n == 0) return;
  if (args.ranks < 1 || args.ranks > kMaxRanks || args.n % kPerVec<T> != 0) {
    throw std::invalid_argument("all-reduce of " + std::to_string(args.n) + " elements over " +
                                std::to_string(args.ranks) + " ranks: up to " + std::to_string(kMaxRanks) +
                                " ranks, whole vectors of 16 bytes");
  }
  const int64_t vectors = args.n / kPerVec<T>, shared = kind == AllReduce::kOneShot ? 1 : args.ranks;
  const int64_t wanted = ((vectors + shared - 1) / shared + kAllReduceThreads - 1) / kAllReduceThreads;
  const auto blocks = static_cast<unsigned>(wanted < kAllReduceBlocks ? wanted : kAllReduceBlocks);
  GPU_LAUNCH((all_reduce_kernel<T>), (Dim3{blocks, static_cast<unsigned>(ranks_here)}), kAllReduceThreads, 0, stream,
             args, kind);
}

template void all_reduce(const AllReduceArgs<float>&, AllReduce, Stream, int);
template void all_reduce(const AllReduceArgs<f16>&, AllReduce, Stream, int);
template void all_reduce(const AllReduceArgs<bf16>&, AllReduce, Stream, int);

}  // namespace pf::gpu
