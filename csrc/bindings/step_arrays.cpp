#include "step_arrays.h"

#include <limits>

#include "runtime/errors.h"

namespace py = pybind11;

namespace {

// The attribute as a C-contiguous array of exactly T with `dims` dimensions; no conversion is ever made.
template <class T>
py::array_t<T> typed(const py::object& owner, const char* name, int dims) {
  const py::object value = owner.attr(name);
  if (!py::isinstance<py::array>(value)) pf::refuse(name, " must be a numpy array");
  const auto array = py::reinterpret_borrow<py::array>(value);
  if (!py::isinstance<py::array_t<T>>(value)) {
    pf::refuse(name, " must have dtype ", std::string(py::str(py::dtype::of<T>())), ", has ",
               std::string(py::str(array.dtype())));
  }
  if (array.ndim() != dims) pf::refuse(name, " must have ", dims, " dimensions, has ", array.ndim());
  if ((array.flags() & py::array::c_style) == 0) pf::refuse(name, " must be C-contiguous");
  return py::reinterpret_borrow<py::array_t<T>>(value);
}

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

template <class T>
const T* StepArrays::array(const py::object& owner, const char* name, int64_t count) {
  const py::array_t<T> values = typed<T>(owner, name, 1);
  if (values.size() != count) pf::refuse(name, " must have ", count, " elements, has ", values.size());
  alive_.push_back(values);
  return values.data();
}

template <class T>
py::array_t<T> StepArrays::ragged(const py::object& owner, const char* name) {
  py::array_t<T> values = typed<T>(owner, name, 1);
  alive_.push_back(values);
  return values;
}

StepArrays::StepArrays(const py::object& inputs, const pf::StepLimits& limits) {
  step_.num_tokens = count_of("token_ids", typed<int32_t>(inputs, "token_ids", 1).size());
  step_.num_seqs = count_of("seq_lens", typed<int32_t>(inputs, "seq_lens", 1).size());
  step_.num_rows = count_of("logits_rows", typed<int32_t>(inputs, "logits_rows", 1).size());
  step_.token_ids = array<int32_t>(inputs, "token_ids", step_.num_tokens);
  step_.positions = array<int32_t>(inputs, "positions", step_.num_tokens);
  step_.slots = array<int32_t>(inputs, "slots", step_.num_tokens);
  step_.query_start = array<int32_t>(inputs, "query_start", int64_t{step_.num_seqs} + 1);
  step_.seq_lens = array<int32_t>(inputs, "seq_lens", step_.num_seqs);
  step_.logits_rows = array<int32_t>(inputs, "logits_rows", step_.num_rows);
  if (present(inputs, "prompt_lens")) step_.prompt_lens = array<int32_t>(inputs, "prompt_lens", step_.num_seqs);

  const auto tables = typed<int32_t>(inputs, "block_tables", 2);
  if (tables.shape(0) != step_.num_seqs) {
    pf::refuse("block_tables must have ", step_.num_seqs, " rows, has ", tables.shape(0));
  }
  step_.block_tables = tables.data();
  step_.max_blocks = count_of("block_tables", tables.shape(1));
  alive_.push_back(tables);

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
  step_.num_copies = count_of("copy_src", typed<int32_t>(inputs, "copy_src", 1).size());
  step_.copy_src = array<int32_t>(inputs, "copy_src", step_.num_copies);
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
    const auto masks = typed<uint32_t>(sampling, "masks", 2);
    const int64_t words = (int64_t{s.vocab} + 31) / 32;
    if (masks.shape(1) != words) pf::refuse("masks must have ", words, " words a row, has ", masks.shape(1));
    s.masks = masks.data();
    s.num_masks = count_of("masks", masks.shape(0));
    alive_.push_back(masks);
  }
  if (group_present(sampling, {"bias_start", "bias_tokens", "bias_values"})) {
    s.bias_start = array<int32_t>(sampling, "bias_start", rows + 1);
    const auto tokens = ragged<int32_t>(sampling, "bias_tokens");
    pf::check_ragged("bias_start", s.bias_start, rows, tokens.size());
    s.bias_tokens = tokens.data();
    s.bias_values = array<float>(sampling, "bias_values", tokens.size());
  }
  if (group_present(sampling, {"count_start", "count_tokens", "count_values"})) {
    s.count_start = array<int32_t>(sampling, "count_start", rows + 1);
    const auto tokens = ragged<int32_t>(sampling, "count_tokens");
    pf::check_ragged("count_start", s.count_start, rows, tokens.size());
    s.count_tokens = tokens.data();
    s.count_values = array<int32_t>(sampling, "count_values", tokens.size());
  }
}

void StepArrays::allocate_sampled(int64_t rows) {
  const PfSampling& s = step_.sampling;
  const auto allocate = [this]<class T>(const char* name, std::vector<py::ssize_t> shape, T fill) {
    py::array_t<T> array(std::move(shape));
    std::fill_n(array.mutable_data(), array.size(), fill);
    sampled_[name] = array;
    return array.mutable_data();
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
