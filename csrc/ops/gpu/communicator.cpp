#include "communicator.h"

#include <limits>
#include <stdexcept>

namespace pf::gpu {
namespace {

template <class T>
constexpr nccl::DataType kTypeOf = nccl::kFloat;
template <>
constexpr nccl::DataType kTypeOf<f16> = nccl::kHalf;
template <>
constexpr nccl::DataType kTypeOf<bf16> = nccl::kBfloat16;

template <class T>
int64_t bytes_of(const AllReduceArgs<T>& args) {
  return args.n * static_cast<int64_t>(sizeof(T));
}

}  // namespace

int64_t own_bytes_of(const std::vector<int64_t>& sizes, const std::vector<float>& our_ms,
                     const std::vector<float>& their_ms, int64_t none) {
  int64_t own = none;
  for (size_t i = 0; i < sizes.size() && our_ms[i] <= their_ms[i]; ++i) own = sizes[i];
  return own;
}

Communicator::Communicator(Runtime& runtime, Stream stream, const RankSetup& setup, const nccl::Library* library,
                           const nccl::UniqueId& id)
    : runtime_(runtime), stream_(stream), setup_(setup), library_(library), timing_(stream) {
  if (setup.ranks < 1 || setup.rank < 0 || setup.rank >= setup.ranks) {
    throw std::invalid_argument("rank " + std::to_string(setup.rank) + " of " + std::to_string(setup.ranks));
  }
  const bool has_own = setup.peer_access && setup.ranks <= kMaxRanks;
  if (library == nullptr && !has_own) {
    throw std::runtime_error("these " + std::to_string(setup.ranks) +
                             " GPUs do not reach each other's memory, or are more than " + std::to_string(kMaxRanks) +
                             ": they need NCCL");
  }
  own_bytes_ = library == nullptr ? std::numeric_limits<int64_t>::max() : has_own ? kOwnBytes : 0;
  if (library != nullptr) {
    library->check(library->init_rank(&comm_, setup.ranks, id, setup.rank), nullptr, "ncclCommInitRank");
  }
}

Communicator::~Communicator() {
  if (comm_ != nullptr) library_->destroy(comm_);
}

template <class T>
void Communicator::by_kernel(const AllReduceArgs<T>& args, Stream stream) const {
  gpu::all_reduce(args, bytes_of(args) <= kOneShotBytes ? AllReduce::kOneShot : AllReduce::kTwoShot, stream);
}

template <class T>
void Communicator::by_library(const AllReduceArgs<T>& args, Stream stream) const {
  library_->check(library_->all_reduce(args.in[setup_.rank], args.out[setup_.rank], static_cast<size_t>(args.n),
                                       kTypeOf<T>, nccl::kSum, comm_, static_cast<void*>(stream)),
                  comm_, "ncclAllReduce");
}

template <class T>
void Communicator::all_reduce(const AllReduceArgs<T>& args, Stream stream) const {
  if (args.n == 0) return;
  if (bytes_of(args) <= own_bytes_ && (library_ == nullptr || bytes_of(args) % 16 == 0)) {
    by_kernel(args, stream);
  } else {
    by_library(args, stream);
  }
}

void Communicator::all_gather(const void* in, void* out, size_t bytes, Stream stream) const {
  if (library_ == nullptr) throw std::runtime_error("all-gather needs NCCL, which was not found");
  library_->check(library_->all_gather(in, out, bytes, nccl::kByte, comm_, static_cast<void*>(stream)), comm_,
                  "ncclAllGather");
}

template <class T>
void Communicator::measure(const AllReduceArgs<T>& args) {
  if (library_ == nullptr || own_bytes_ == 0) return;  // there is no choice
  std::vector<int64_t> sizes;
  std::vector<float> times;  // ours and theirs of each size
  for (int64_t bytes = kFewestMeasured; bytes <= bytes_of(args); bytes *= 2) {
    AllReduceArgs<T> part = args;
    part.n = bytes / static_cast<int64_t>(sizeof(T));
    sizes.push_back(bytes);
    times.push_back(static_cast<float>(timing_.milliseconds([&] { by_kernel(part, stream_); })));
    times.push_back(static_cast<float>(timing_.milliseconds([&] { by_library(part, stream_); })));
  }
  if (sizes.empty()) return;
  // Summed over the ranks, so that all decide alike. What was `out` has room for it: it is kFewestMeasured long at
  // least.
  const size_t bytes = times.size() * sizeof(float);
  runtime_.copy_in(args.out[setup_.rank], times.data(), bytes, stream_);
  library_->check(library_->all_reduce(args.out[setup_.rank], args.out[setup_.rank], times.size(), nccl::kFloat,
                                       nccl::kSum, comm_, static_cast<void*>(stream_)),
                  comm_, "ncclAllReduce");
  runtime_.copy_out(times.data(), args.out[setup_.rank], bytes, stream_);
  runtime_.synchronize(stream_);
  std::vector<float> ours, theirs;
  for (size_t i = 0; i < times.size(); i += 2) {
    ours.push_back(times[i]);
    theirs.push_back(times[i + 1]);
  }
  own_bytes_ = own_bytes_of(sizes, ours, theirs, kFewestMeasured / 2);
}

template void Communicator::measure(const AllReduceArgs<float>&);
template void Communicator::measure(const AllReduceArgs<f16>&);
template void Communicator::measure(const AllReduceArgs<bf16>&);
template void Communicator::all_reduce(const AllReduceArgs<float>&, Stream) const;
template void Communicator::all_reduce(const AllReduceArgs<f16>&, Stream) const;
template void Communicator::all_reduce(const AllReduceArgs<bf16>&, Stream) const;

}  // namespace pf::gpu
