#include "step_arrays.h"

#include <algorithm>
#include <limits>

#include "runtime/errors.h"

namespace py = pybind11;

namespace {

int32_t count_of(const char* name, int64_t size) {
  if (size > std::numeric_limits<int32_t>::max()) pf::refuse(name, " has ", size, " elements, too many for one step");
  return static_cast<int32_t>(size);
}

bool present(const py::object& owner, const char* name) { return !owner.attr(name).is_none(); }

// A group of optional fields must be given as a whole.
bool group_present(const py::object& owner, std::initializer_list<const char*> names) {
  const bool first = present(owner, *names.begin());
  for (const char* name : names) {
    if (present(owner, name) != first) pf::refuse(name, " and ", *names.begin(), " must both be given or both be None");
  }
  return first;
}

}  // namespace

// The attribute's buffer; no conversion is ever made.
const HeldBuffer& StepArrays::held(const py::object& owner, const char* name) {
  held_.push_back(std::make_unique<HeldBuffer>(owner.attr(name), name));
  return *held_.back();
}

template <class T>
const T* StepArrays::array(const py::object& owner, const char* name, int64_t count) {
  const HeldBuffer& values = held(owner, name);
  const T* data = values.data<T>(1);
  if (values.size() != count) pf::refuse(name, " must have ", count, " elements, has ", values.size());
  return data;
}

template <class T>
const T* StepArrays::counted(const py::object& owner, const char* name, int32_t* count) {
  const HeldBuffer& values = held(owner, name);
  const T* data = values.data<T>(1);
  *count = count_of(name, values.size());
  return data;
}

StepArrays::StepArrays(const py::object& inputs, const pf::StepLimits& limits) {
  step_.token_ids = counted<int32_t>(inputs, "token_ids", &step_.num_tokens);
  step_.seq_lens = counted<int32_t>(inputs, "seq_lens", &step_.num_seqs);
  step_.logits_rows = counted<int32_t>(inputs, "logits_rows", &step_.num_rows);
  step_.positions = array<int32_t>(inputs, "positions", step_.num_tokens);
  step_.slots = array<int32_t>(inputs, "slots", step_.num_tokens);
  step_.query_start = array<int32_t>(inputs, "query_start", int64_t{step_.num_seqs} + 1);
  if (present(inputs, "prompt_lens")) step_.prompt_lens = array<int32_t>(inputs, "prompt_lens", step_.num_seqs);

  const HeldBuffer& tables = held(inputs, "block_tables");
  step_.block_tables = tables.data<int32_t>(2);
  if (tables.shape(0) != step_.num_seqs) {
    pf::refuse("block_tables must have ", step_.num_seqs, " rows, has ", tables.shape(0));
  }
  step_.max_blocks = count_of("block_tables", tables.shape(1));

  read_copies(inputs);
  step_.copy_logits = inputs.attr("copy_logits").cast<bool>() ? 1 : 0;
  if (limits.logits_cols > 0 && step_.num_rows > 0) {
    const py::object sampling = inputs.attr("sampling");
    if (sampling.is_none()) pf::refuse("the step has ", step_.num_rows, " rows to sample, but sampling is None");
    read_sampling(sampling, limits);
  }
  allocate_sampled(step_.num_rows);
}

void StepArrays::read_copies(const py::object& inputs) {
  if (!group_present(inputs, {"copy_src", "copy_dst"})) return;
  step_.copy_src = counted<int32_t>(inputs, "copy_src", &step_.num_copies);
  step_.copy_dst = array<int32_t>(inputs, "copy_dst", step_.num_copies);
}

void StepArrays::read_sampling(const py::object& sampling, const pf::StepLimits& limits) {
  const int64_t rows = step_.num_rows;
  PfSampling& s = step_.sampling;
  const auto vocab = sampling.attr("vocab").cast<int64_t>();
  s.vocab = count_of("vocab", vocab == 0 ? limits.logits_cols : vocab);
  s.temperature = array<float>(sampling, "temperature", rows);
  s.top_p = array<float>(sampling, "top_p", rows);
  s.min_p = array<float>(sampling, "min_p", rows);
  s.top_k = array<int32_t>(sampling, "top_k", rows);
  s.repetition = array<float>(sampling, "repetition", rows);
  s.presence = array<float>(sampling, "presence", rows);
  s.frequency = array<float>(sampling, "frequency", rows);
  s.seed = array<uint64_t>(sampling, "seed", rows);
  s.stream = array<uint32_t>(sampling, "stream", rows);
  s.position = array<uint32_t>(sampling, "position", rows);
  s.num_logprobs = array<int32_t>(sampling, "num_logprobs", rows);
  s.target = array<int32_t>(sampling, "target", rows);
  s.defer = array<uint8_t>(sampling, "defer", rows);
  if (present(sampling, "weigh")) s.weigh = array<uint8_t>(sampling, "weigh", rows);
  for (int64_t row = 0; row < rows; ++row) s.max_logprobs = std::max(s.max_logprobs, s.num_logprobs[row]);
  if (s.max_logprobs > s.vocab) pf::refuse("num_logprobs asks for ", s.max_logprobs, " of ", s.vocab, " tokens");

  if (group_present(sampling, {"mask_row", "masks"})) {
    s.mask_row = array<int32_t>(sampling, "mask_row", rows);
    const HeldBuffer& masks = held(sampling, "masks");
    s.masks = masks.data<uint32_t>(2);
    const int64_t words = (int64_t{s.vocab} + 31) / 32;
    if (masks.shape(1) != words) pf::refuse("masks must have ", words, " words a row, has ", masks.shape(1));
    s.num_masks = count_of("masks", masks.shape(0));
  }
  if (group_present(sampling, {"bias_start", "bias_tokens", "bias_values"})) {
    s.bias_start = array<int32_t>(sampling, "bias_start", rows + 1);
    int32_t size = 0;
    s.bias_tokens = counted<int32_t>(sampling, "bias_tokens", &size);
    pf::check_ragged("bias_start", s.bias_start, rows, size);
    s.bias_values = array<float>(sampling, "bias_values", size);
  }
  if (group_present(sampling, {"count_start", "count_tokens", "count_values"})) {
    s.count_start = array<int32_t>(sampling, "count_start", rows + 1);
    int32_t size = 0;
    s.count_tokens = counted<int32_t>(sampling, "count_tokens", &size);
    pf::check_ragged("count_start", s.count_start, rows, size);
    s.count_values = array<int32_t>(sampling, "count_values", size);
  }
}

void StepArrays::allocate_sampled(int64_t rows) {
  const PfSampling& s = step_.sampling;
  const auto allocate = [this]<class T>(const char* name, const std::vector<py::ssize_t>& shape, T fill) {
    T* data = nullptr;
    sampled_[name] = new_view(shape, fill, &data);
    return data;
  };
  PfSampled& out = step_.sampled;
  out.ids = allocate("ids", {rows}, int32_t{-1});
  out.logprobs = allocate("logprobs", {rows}, 0.0f);
  out.ranks = allocate("ranks", {rows}, int32_t{0});
  out.top_ids = allocate("top_ids", {rows, s.max_logprobs}, int32_t{-1});
  out.top_logprobs = allocate("top_logprobs", {rows, s.max_logprobs}, 0.0f);
  out.status = allocate("status", {rows}, uint8_t{0});
  out.log_allowed = allocate("log_allowed", {rows}, 0.0f);
  out.allowed_logprobs = allocate("allowed_logprobs", {rows}, 0.0f);
  bool copies_logits = step_.copy_logits != 0;
  if (s.defer != nullptr)
    copies_logits = copies_logits || std::any_of(s.defer, s.defer + rows, [](uint8_t d) { return d; });
  sampled_["logits"] = py::none();
  if (copies_logits) out.logits_out = allocate("logits", {rows, s.vocab}, 0.0f);
}
