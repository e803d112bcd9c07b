#include "runner.h"

#include <algorithm>
#include <atomic>

#include "../gpu/numbers.h"
#include "errors.h"
#include "lower.h"

namespace pf {
namespace {

// Bound of the rows of a step; keeps sizes of buffers far from overflow.
constexpr int64_t kMostRows = int64_t{1} << 24;

Bindings bindings_of(const std::vector<std::shared_ptr<Weight>>& weights,
                     const std::vector<std::vector<float>>& vectors, const KvCache* kv) {
  Bindings bindings;
  for (const auto& weight : weights) bindings.weights.push_back(weight->shape());
  for (const auto& vector : vectors) bindings.vectors.push_back(static_cast<int64_t>(vector.size()));
  bindings.kv = kv == nullptr ? nullptr : &kv->shape();
  return bindings;
}

void require_ops(const Program& program, const Device& device) {
  for (const Op& op : program.ops) {
    if (!device.has_op(op.name)) {
      throw BackendError(
          message("the ", device.backend().name, " backend has no op \"", op.name, "\", which the program needs"));
    }
  }
}

void require_types(const Program& program, const Device& device) {
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    const PfDType dtype = program.buffers[i].dtype;
    if (dtype != PF_F32 && dtype != device.activations()) {
      refuse("buffer ", i, " is of another type than the activations that the device was made for");
    }
  }
}

// Between float32 and what a buffer holds.
template <class T>
void narrow(const float* from, char* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) reinterpret_cast<T*>(to)[i] = gpu::from_float<T>(from[i]);
}
template <class T>
void widen(const char* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = gpu::to_float(reinterpret_cast<const T*>(from)[i]);
}

uint64_t new_program_id() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

const View& find_external(const std::map<std::string, View>& externals, const std::string& name, const char* kind) {
  const auto at = externals.find(name);
  if (at == externals.end()) refuse("the program has no ", kind, " \"", name, "\"");
  return at->second;
}

}  // namespace

Runner::Runner(std::shared_ptr<Device> device, Program program, std::vector<std::shared_ptr<Weight>> weights,
               std::vector<std::vector<float>> vectors, std::shared_ptr<KvCache> kv, const RunnerOptions& options)
    : device_(std::move(device)), program_(std::move(program)), weights_(std::move(weights)), kv_(std::move(kv)) {
  for (const int64_t most : {options.maxima.tokens, options.maxima.seqs, options.maxima.logits}) {
    if (most < 1 || most > kMostRows) {
      refuse("the largest step has 1 to ", kMostRows, " tokens, sequences and rows of logits each, not ", most);
    }
  }
  validate(program_, bindings_of(weights_, vectors, kv_.get()));
  require_ops(program_, *device_);
  require_types(program_, *device_);
  if (options.lower) {
    program_ = lower(std::move(program_), [this](const std::string& name) { return device_->has_op(name); });
  }
  plan_ = plan_arena(program_, options.maxima);
  arena_ = std::make_unique<DeviceMemory>(device_, std::max<size_t>(plan_.bytes, kArenaAlignment));

  const auto aligned = [](size_t floats) { return (floats * sizeof(float) + 63) / 64 * 64; };
  size_t vector_bytes = 64;
  for (const auto& vector : vectors) vector_bytes += aligned(vector.size());
  vector_memory_ = std::make_unique<DeviceMemory>(device_, vector_bytes);
  char* next = vector_memory_->data();
  for (const auto& vector : vectors) {
    vector_memory_->write(next, vector.data(), vector.size() * sizeof(float));
    vectors_.push_back(reinterpret_cast<const float*>(next));
    vector_lens_.push_back(static_cast<int64_t>(vector.size()));
    next += aligned(vector.size());
  }

  limits_.maxima = options.maxima;
  identity_ = {new_program_id(), static_cast<int32_t>(options.maxima.tokens), static_cast<int32_t>(options.maxima.seqs),
               static_cast<int32_t>(options.maxima.logits)};
  limits_.kv = kv_ == nullptr ? nullptr : &kv_->shape();
  for (const Op& op : program_.ops) {
    if (op.name == "embed") {
      const int64_t vocab = weights_[static_cast<size_t>(op.weight)]->shape().rows;
      limits_.vocab = limits_.vocab == 0 ? vocab : std::min(limits_.vocab, vocab);
    } else if (op.name == "sample") {
      limits_.logits_cols = op.inputs[0].cols;
    }
  }
  bind_calls();
}

Runner::~Runner() {
  const PfBackend& backend = device_->backend();
  if (backend.release_program != nullptr) backend.release_program(device_->handle(), identity_.id);
}

PfTensor Runner::tensor(const View& view) const {
  const Placement& place = plan_.buffers[static_cast<size_t>(view.buffer)];
  const PfDType dtype = program_.buffers[static_cast<size_t>(view.buffer)].dtype;
  char* const data = arena_->data() + place.offset + static_cast<size_t>(view.col) * element_bytes(dtype);
  return {data, 0, view.cols, place.stride, dtype};
}

void Runner::bind_calls() {
  for (const Op& op : program_.ops) {
    PfCall call{};
    call.op = device_->backend().find_op(op.name.c_str());
    call.num_inputs = static_cast<int32_t>(op.inputs.size());
    call.num_outputs = static_cast<int32_t>(op.outputs.size());
    for (size_t i = 0; i < op.inputs.size(); ++i) call.in[i] = tensor(op.inputs[i]);
    for (size_t i = 0; i < op.outputs.size(); ++i) call.out[i] = tensor(op.outputs[i]);
    if (op.weight >= 0) call.weight = weights_[static_cast<size_t>(op.weight)]->handle();
    if (op.vector >= 0) {
      call.vector = vectors_[static_cast<size_t>(op.vector)];
      call.vector_len = vector_lens_[static_cast<size_t>(op.vector)];
    }
    std::copy(op.ints.begin(), op.ints.end(), call.ints);
    std::copy(op.floats.begin(), op.floats.end(), call.floats);
    bound_.push_back(call);
  }
  calls_.reserve(bound_.size());
}

void Runner::set_rows(const StepSizes& sizes) {
  if (sizes == sizes_) return;
  sizes_ = sizes;
  calls_.clear();
  for (size_t i = 0; i < bound_.size(); ++i) {
    PfCall& call = bound_[i];
    const Op& op = program_.ops[i];
    int64_t most_rows = 0;
    const auto set = [&](PfTensor& tensor, const View& view) {
      tensor.rows = sizes.of(program_.buffers[static_cast<size_t>(view.buffer)].rows);
      most_rows = std::max(most_rows, tensor.rows);
    };
    for (size_t k = 0; k < op.inputs.size(); ++k) set(call.in[k], op.inputs[k]);
    for (size_t k = 0; k < op.outputs.size(); ++k) set(call.out[k], op.outputs[k]);
    const bool writes_rows = op.outputs.empty() || call.out[0].rows > 0;
    if (most_rows > 0 && writes_rows) calls_.push_back(call);
  }
}

void Runner::place_inputs() const {
  for (const auto& [name, view] : program_.inputs) {
    const auto at = fed_.find(name);
    if (at == fed_.end()) refuse("input \"", name, "\" was not fed");
    const Matrix& fed = at->second;
    const int64_t rows = sizes_.of(program_.buffers[static_cast<size_t>(view.buffer)].rows);
    if (fed.rows != rows) refuse("input \"", name, "\" was fed ", fed.rows, " rows, the step has ", rows);
    const PfTensor target = tensor(view);
    const size_t element = element_bytes(static_cast<PfDType>(target.dtype));
    std::vector<char> values(static_cast<size_t>(view.cols) * element);
    for (int64_t row = 0; row < rows; ++row) {
      const float* const from = fed.values.data() + row * view.cols;
      if (target.dtype == PF_F32) narrow<float>(from, values.data(), view.cols);
      if (target.dtype == PF_F16) narrow<gpu::f16>(from, values.data(), view.cols);
      if (target.dtype == PF_BF16) narrow<gpu::bf16>(from, values.data(), view.cols);
      arena_->write(static_cast<char*>(target.data) + static_cast<size_t>(row * target.stride) * element, values.data(),
                    values.size());
    }
  }
}

void Runner::run(PfStep step) {
  check_step(step, limits_);
  const std::lock_guard<std::mutex> lock(mutex_);
  set_rows({step.num_tokens, step.num_seqs, step.num_rows});
  place_inputs();
  step.kv = kv_ == nullptr ? nullptr : kv_->handle();
  step.program = &identity_;
  const auto count = static_cast<int32_t>(calls_.size());
  device_->check(device_->backend().execute(device_->handle(), calls_.data(), count, &step), "running a step");
}

void Runner::feed(const std::string& name, Matrix values) {
  const View& view = find_external(program_.inputs, name, "input");
  if (values.cols != view.cols) refuse("input \"", name, "\" has ", view.cols, " columns, was fed ", values.cols);
  const std::lock_guard<std::mutex> lock(mutex_);
  fed_[name] = std::move(values);
}

Matrix Runner::fetch(const std::string& name) const {
  const View& view = find_external(program_.outputs, name, "output");
  const PfTensor source = tensor(view);
  const std::lock_guard<std::mutex> lock(mutex_);
  Matrix out{sizes_.of(program_.buffers[static_cast<size_t>(view.buffer)].rows), view.cols, {}};
  out.values.resize(static_cast<size_t>(out.rows * out.cols));
  const size_t element = element_bytes(static_cast<PfDType>(source.dtype));
  std::vector<char> values(static_cast<size_t>(out.cols) * element);
  for (int64_t row = 0; row < out.rows; ++row) {
    arena_->read(values.data(),
                 static_cast<const char*>(source.data) + static_cast<size_t>(row * source.stride) * element,
                 values.size());
    float* const to = out.values.data() + row * out.cols;
    if (source.dtype == PF_F32) widen<float>(values.data(), to, out.cols);
    if (source.dtype == PF_F16) widen<gpu::f16>(values.data(), to, out.cols);
    if (source.dtype == PF_BF16) widen<gpu::bf16>(values.data(), to, out.cols);
  }
  return out;
}

}  // namespace pf
