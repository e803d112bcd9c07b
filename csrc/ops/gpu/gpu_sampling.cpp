#include "gpu_sampling.h"

#include <algorithm>
#include <vector>

#include "../sample/gpu/sample.h"

namespace pf::gpu {
namespace {

// The host's arrays of a step's sampling in the order in which they are packed.
class Packing {
 public:
  explicit Packing(Transfer& transfer) : transfer_(transfer) { transfer_.clear(); }

  // After pack(), `pointer` is the device's; null stays null.
  template <class T>
  void add(const T*& pointer, int64_t count) {
    if (pointer == nullptr) return;
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    arrays_.push_back({&pointer, pointer, transfer_.add(bytes), bytes, [](void* field, char* device) {
                         *static_cast<const T**>(field) = reinterpret_cast<T*>(device);
                       }});
  }

  void pack() {
    transfer_.reserve();
    for (const Array& array : arrays_) {
      if (array.bytes > 0) std::memcpy(transfer_.host<char>(array.place), array.from, array.bytes);
      array.set(array.field, transfer_.device<char>(array.place));
    }
  }

 private:
  struct Array {
    void* field;
    const void* from;
    size_t place, bytes;
    void (*set)(void* field, char* device);
  };
  Transfer& transfer_;
  std::vector<Array> arrays_;
};

}  // namespace

Sampling::Sampling(Runtime& runtime, MemoryPool& memory)
    : runtime_(runtime), memory_(memory), inputs_(runtime, memory, "sampling"), outputs_(runtime, memory, "sampled") {}

Sampling::~Sampling() { memory_.release(scratch_); }

PfSampling Sampling::upload(const PfStep& step, Stream stream) {
  PfSampling s = step.sampling;
  const int64_t rows = step.num_rows, words = (int64_t{s.vocab} + 31) / 32;
  const int64_t biases = s.bias_start == nullptr ? 0 : s.bias_start[rows];
  const int64_t counts = s.count_start == nullptr ? 0 : s.count_start[rows];
  Packing packing(inputs_);
  packing.add(s.temperature, rows);
  packing.add(s.top_p, rows);
  packing.add(s.min_p, rows);
  packing.add(s.top_k, rows);
  packing.add(s.repetition, rows);
  packing.add(s.presence, rows);
  packing.add(s.frequency, rows);
  packing.add(s.seed, rows);
  packing.add(s.stream, rows);
  packing.add(s.position, rows);
  packing.add(s.num_logprobs, rows);
  packing.add(s.target, rows);
  packing.add(s.defer, rows);
  packing.add(s.weigh, rows);
  packing.add(s.mask_row, rows);
  packing.add(s.masks, s.num_masks * words);
  packing.add(s.bias_start, rows + 1);
  packing.add(s.bias_tokens, biases);
  packing.add(s.bias_values, biases);
  packing.add(s.count_start, rows + 1);
  packing.add(s.count_tokens, counts);
  packing.add(s.count_values, counts);
  packing.pack();
  inputs_.upload(0, inputs_.bytes(), stream);
  return s;
}

void Sampling::launch(const PfTensor& logits, const PfStep& step, Stream stream) {
  const auto rows = static_cast<size_t>(step.num_rows), vocab = static_cast<size_t>(step.sampling.vocab);
  const auto table = rows * static_cast<size_t>(step.sampling.max_logprobs);
  if (rows * vocab > scratch_floats_) {
    memory_.release(scratch_);
    scratch_ = nullptr;
    scratch_floats_ = 0;
    scratch_ = static_cast<float*>(memory_.allocate(rows * vocab * sizeof(float), "adjusted logits"));
    scratch_floats_ = rows * vocab;
  }
  SampleArgs args{};
  args.logits = static_cast<const float*>(logits.data);
  args.stride = logits.stride;
  args.rows = step.num_rows;
  args.copy_logits = step.copy_logits != 0;
  args.sampling = upload(step, stream);
  args.scratch = scratch_;

  outputs_.clear();
  places_.ids = outputs_.add(rows * 4);
  places_.logprobs = outputs_.add(rows * 4);
  places_.ranks = outputs_.add(rows * 4);
  places_.top_ids = outputs_.add(table * 4);
  places_.top_logprobs = outputs_.add(table * 4);
  places_.status = outputs_.add(rows);
  places_.log_allowed = outputs_.add(rows * 4);
  places_.allowed_logprobs = outputs_.add(rows * 4);
  places_.logits = outputs_.add(step.sampled.logits_out == nullptr ? 0 : rows * vocab * 4);
  outputs_.reserve();
  PfSampled& out = args.sampled;
  out.ids = outputs_.device<int32_t>(places_.ids);
  out.logprobs = outputs_.device<float>(places_.logprobs);
  out.ranks = outputs_.device<int32_t>(places_.ranks);
  out.top_ids = outputs_.device<int32_t>(places_.top_ids);
  out.top_logprobs = outputs_.device<float>(places_.top_logprobs);
  out.status = outputs_.device<uint8_t>(places_.status);
  out.log_allowed = outputs_.device<float>(places_.log_allowed);
  out.allowed_logprobs = outputs_.device<float>(places_.allowed_logprobs);
  out.logits_out = step.sampled.logits_out == nullptr ? nullptr : outputs_.device<float>(places_.logits);
  sample(args, stream);
  outputs_.download(stream);
}

void Sampling::fetch(const PfStep& step, Stream stream) {
  runtime_.synchronize(stream);
  const PfSampled& out = step.sampled;
  const auto rows = static_cast<size_t>(step.num_rows), vocab = static_cast<size_t>(step.sampling.vocab);
  const auto table = rows * static_cast<size_t>(step.sampling.max_logprobs);
  const auto take = [&]<class T>(T* to, size_t place, size_t count) {
    if (to != nullptr) std::copy_n(outputs_.host<T>(place), count, to);
  };
  take(out.ids, places_.ids, rows);
  take(out.logprobs, places_.logprobs, rows);
  take(out.ranks, places_.ranks, rows);
  take(out.top_ids, places_.top_ids, table);
  take(out.top_logprobs, places_.top_logprobs, table);
  take(out.status, places_.status, rows);
  take(out.log_allowed, places_.log_allowed, rows);
  take(out.allowed_logprobs, places_.allowed_logprobs, rows);
  if (out.logits_out == nullptr) return;
  for (size_t row = 0; row < rows; ++row) {  // the others were not written
    if (step.copy_logits == 0 && step.sampling.defer[row] == 0) continue;
    take(out.logits_out + row * vocab, places_.logits + row * vocab * sizeof(float), vocab);
  }
}

}  // namespace pf::gpu
