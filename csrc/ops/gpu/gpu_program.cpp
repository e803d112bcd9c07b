#include "gpu_program.h"

#include <algorithm>
#include <set>

#include "../../runtime/errors.h"
#include "../attention/gpu/attention.h"

namespace pf::gpu {
namespace {

const GpuKvCache* kv_of(const PfStep& step) { return reinterpret_cast<const GpuKvCache*>(step.kv); }

// Every sequence computes one token and samples it.
bool decodes(const PfStep& step) {
  return step.kv != nullptr && step.num_tokens == step.num_seqs && step.num_rows == step.num_seqs;
}

void launch_calls(const PfCall* calls, int32_t count, const GpuStep& step, Stream stream) {
  for (int32_t i = 0; i < count; ++i) gpu_op(calls[i].op).launch(calls[i], step, stream);
}

size_t scratch_of(const PfCall* calls, int32_t count, const GpuStep& step) {
  size_t most = 0;
  for (int32_t i = 0; i < count; ++i) {
    const GpuOp& op = gpu_op(calls[i].op);
    if (op.scratch != nullptr) most = std::max(most, op.scratch(calls[i], step));
  }
  return most;
}

// Ends a capture of which one launch has failed; a second failure would say nothing new.
void abandon_capture(Runtime& runtime, Stream stream) {
  try {
    runtime.destroy(runtime.end_capture(stream));
  } catch (const std::runtime_error&) {
  }
}

}  // namespace

int bucket_of(int seqs, int most) {
  int bucket = 1;
  while (bucket < seqs && bucket < 8) bucket *= 2;
  if (bucket < seqs) bucket = (seqs + 7) / 8 * 8;
  return std::max(seqs, std::min(bucket, most));
}

int length_bucket_of(int max_len) {
  int length = kAttentionSplit;
  while (length < max_len) length *= 2;
  return length;
}

float* Scratch::reserve(size_t floats) {
  if (floats <= floats_) return data_;
  size_t wanted = 1024;
  while (wanted < floats) wanted *= 2;
  memory_.release(data_);
  data_ = nullptr;
  floats_ = 0;
  ++generation_;
  data_ = static_cast<float*>(memory_.allocate(wanted * sizeof(float), "scratch"));
  floats_ = wanted;
  return data_;
}

GpuProgram::GpuProgram(Runtime& runtime, MemoryPool& memory, int32_t activations, const PfProgram& program)
    : runtime_(runtime),
      activations_(activations),
      program_(program),
      inputs_(runtime, memory, "step inputs"),
      copies_(runtime, memory, "block copies") {}

GpuProgram::~GpuProgram() { forget_graphs(); }

void GpuProgram::forget_graphs() {
  for (const auto& [key, captured] : graphs_) runtime_.destroy(captured.graph);
  graphs_.clear();
}

// In the order given, as far as one reads or writes what another wrote: copies that do not meet go in one launch.
void GpuProgram::copy_blocks_of(const PfStep& step, Stream stream) {
  if (step.num_copies == 0) return;
  const auto bytes = static_cast<size_t>(step.num_copies) * sizeof(int32_t);
  copies_.clear();
  const size_t src = copies_.add(bytes), dst = copies_.add(bytes);
  copies_.reserve();
  std::memcpy(copies_.host<char>(src), step.copy_src, bytes);
  std::memcpy(copies_.host<char>(dst), step.copy_dst, bytes);
  copies_.upload(0, copies_.bytes(), stream);
  std::set<int32_t> read, written;
  int begin = 0;
  const auto launch_until = [&](int end) {
    copy_cache_blocks(*kv_of(step), copies_.device<int32_t>(src) + begin, copies_.device<int32_t>(dst) + begin,
                      end - begin, stream);
    begin = end;
    read.clear();
    written.clear();
  };
  for (int i = 0; i < step.num_copies; ++i) {
    const int32_t from = step.copy_src[i], to = step.copy_dst[i];
    if (written.contains(from) || written.contains(to) || read.contains(to)) launch_until(i);
    read.insert(from);
    written.insert(to);
  }
  launch_until(step.num_copies);
}

// Position of the first token that a sequence computes.
static int first_position(const PfStep& step, int seq) {
  return step.seq_lens[seq] - (step.query_start[seq + 1] - step.query_start[seq]);
}

bool GpuProgram::has_prompts(const PfStep& step) const {
  const GpuKvCache* kv = kv_of(step);
  if (kv == nullptr || step.prompt_lens == nullptr || !has_prefill(activations_, kv->shape.dtype)) return false;
  for (int seq = 0; seq < step.num_seqs; ++seq) {
    if (first_position(step, seq) < step.prompt_lens[seq]) return true;
  }
  return false;
}

void GpuProgram::split_tokens(const PfStep& step, int32_t* prompt_ends, int32_t* generated, int* num_generated) const {
  for (int seq = 0; seq < step.num_seqs; ++seq) {
    const int begin = step.query_start[seq], end = step.query_start[seq + 1];
    const int end_of_prompt = begin + std::max(0, step.prompt_lens[seq] - first_position(step, seq));
    prompt_ends[seq] = std::min(end, end_of_prompt);
    for (int token = prompt_ends[seq]; token < end; ++token) generated[(*num_generated)++] = token;
  }
}

// The step with `seqs` sequences, those past its own empty. Arrays lie at the same addresses in every step, since they
// have room for the largest one; only the tables, which are last, have rows as long as `length` needs.
GpuStep GpuProgram::upload(const PfStep& step, int seqs, int length, Stream stream) {
  const int added = seqs - step.num_seqs;
  const GpuKvCache* kv = kv_of(step);
  const int table_width = kv == nullptr ? 0 : (length + kv->shape.block_size - 1) / kv->shape.block_size;
  inputs_.clear();
  const auto room = [&](int64_t ints) { return inputs_.add(static_cast<size_t>(ints) * sizeof(int32_t)); };
  const size_t token_ids = room(program_.max_tokens), positions = room(program_.max_tokens);
  const size_t slots = room(program_.max_tokens), query_start = room(program_.max_seqs + int64_t{1});
  const size_t seq_lens = room(program_.max_seqs), logits_rows = room(program_.max_rows);
  const size_t prompt_ends = room(program_.max_seqs), generated = room(program_.max_tokens);
  const size_t tables = room(int64_t{program_.max_seqs} * table_width);
  if (inputs_.reserve()) forget_graphs();

  const auto put = [&](size_t place, const int32_t* values, int count, int32_t padding) {
    int32_t* const to = inputs_.host<int32_t>(place);
    std::copy_n(values, count, to);
    std::fill_n(to + count, added, padding);
  };
  put(token_ids, step.token_ids, step.num_tokens, 0);
  put(positions, step.positions, step.num_tokens, 0);
  put(slots, step.slots, step.num_tokens, -1);
  put(seq_lens, step.seq_lens, step.num_seqs, 0);
  put(logits_rows, step.logits_rows, step.num_rows, 0);
  put(query_start, step.query_start, step.num_seqs + 1, 0);
  for (int i = 1; i <= added; ++i) {
    inputs_.host<int32_t>(query_start)[step.num_seqs + i] = step.num_tokens + i;  // one token each
  }
  for (int seq = 0; kv != nullptr && seq < step.num_seqs; ++seq) {
    const int blocks = (step.seq_lens[seq] + kv->shape.block_size - 1) / kv->shape.block_size;
    std::copy_n(step.block_tables + static_cast<int64_t>(seq) * step.max_blocks, blocks,
                inputs_.host<int32_t>(tables) + static_cast<int64_t>(seq) * table_width);
  }
  GpuStep on_device;
  if (has_prompts(step)) {
    split_tokens(step, inputs_.host<int32_t>(prompt_ends), inputs_.host<int32_t>(generated), &on_device.num_generated);
    on_device.prompt_ends = inputs_.device<int32_t>(prompt_ends);
    on_device.generated = inputs_.device<int32_t>(generated);
  }
  inputs_.upload(0, tables + static_cast<size_t>(step.num_seqs) * static_cast<size_t>(table_width) * sizeof(int32_t),
                 stream);

  on_device.tokens = step.num_tokens + added;
  on_device.seqs = seqs;
  on_device.rows = step.num_rows + added;
  on_device.token_ids = inputs_.device<int32_t>(token_ids);
  on_device.positions = inputs_.device<int32_t>(positions);
  on_device.slots = inputs_.device<int32_t>(slots);
  on_device.query_start = inputs_.device<int32_t>(query_start);
  on_device.seq_lens = inputs_.device<int32_t>(seq_lens);
  on_device.block_tables = inputs_.device<int32_t>(tables);
  on_device.logits_rows = inputs_.device<int32_t>(logits_rows);
  on_device.max_blocks = table_width;
  on_device.max_len = length;
  on_device.kv = kv;
  return on_device;
}

void GpuProgram::launch(const PfCall* calls, int32_t count, const PfStep& step, Scratch& scratch, Stream stream,
                        LibraryGemm* gemm) {
  if (gemm != nullptr && !compared_) {
    for (int32_t i = 0; i < count; ++i) measure_gemm(calls[i], *gemm, std::max(program_.max_tokens, program_.max_rows));
    compared_ = true;
  }
  copy_blocks_of(step, stream);
  const int longest = *std::max_element(step.seq_lens, step.seq_lens + step.num_seqs);
  if (!decodes(step) || has_prompts(step)) {
    GpuStep plain = upload(step, step.num_seqs, longest, stream);
    plain.partials = scratch.reserve(scratch_of(calls, count, plain));
    plain.gemm = gemm;
    launch_calls(calls, count, plain, stream);
    ++stats_.plain_steps;
    return;
  }
  const int most = std::min({program_.max_tokens, program_.max_seqs, program_.max_rows});
  const Key key = {bucket_of(step.num_seqs, most), length_bucket_of(longest)};
  GpuStep filled = upload(step, key.first, key.second, stream);
  std::vector<PfCall> wide(calls, calls + count);
  for (PfCall& call : wide) {
    for (PfTensor& tensor : call.in) tensor.rows = key.first;
    for (PfTensor& tensor : call.out) tensor.rows = key.first;
  }
  filled.partials = scratch.reserve(scratch_of(wide.data(), count, filled));
  filled.gemm = gemm;
  auto found = graphs_.find(key);
  if (found != graphs_.end() && found->second.scratch_generation != scratch.generation()) {
    runtime_.destroy(found->second.graph);
    graphs_.erase(found);
    found = graphs_.end();
  }
  if (found == graphs_.end()) {
    runtime_.begin_capture(stream);
    try {
      launch_calls(wide.data(), count, filled, stream);
    } catch (...) {
      abandon_capture(runtime_, stream);
      throw;
    }
    found = graphs_.insert({key, {runtime_.end_capture(stream), scratch.generation()}}).first;
    ++stats_.graphs;
  }
  runtime_.launch(found->second.graph, stream);
  ++stats_.graph_launches;
}

}  // namespace pf::gpu
