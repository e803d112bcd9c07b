#include "arena.h"

#include <algorithm>
#include <numeric>

#include "errors.h"

namespace pf {
namespace {

std::vector<Placement> sizes_and_lives(const Program& program, const StepSizes& maxima) {
  std::vector<Placement> buffers(program.buffers.size());
  const int end = static_cast<int>(program.ops.size());
  for (size_t i = 0; i < buffers.size(); ++i) {
    const Buffer& buffer = program.buffers[i];
    Placement& place = buffers[i];
    const size_t element = element_bytes(buffer.dtype);
    const auto line = static_cast<int64_t>(kArenaAlignment / element);
    place.stride = (buffer.cols + line - 1) / line * line;
    place.bytes = static_cast<size_t>(std::max<int64_t>(1, maxima.of(buffer.rows)) * place.stride) * element;
    place.first = end;
    place.last = -1;
  }
  const auto touch = [&](const View& view, int op) {
    Placement& place = buffers[static_cast<size_t>(view.buffer)];
    place.first = std::min(place.first, op);
    place.last = std::max(place.last, op);
  };
  for (const auto& [name, view] : program.inputs) touch(view, 0);
  for (int op = 0; op < end; ++op) {
    for (const View& view : program.ops[static_cast<size_t>(op)].inputs) touch(view, op);
    for (const View& view : program.ops[static_cast<size_t>(op)].outputs) touch(view, op);
  }
  for (const auto& [name, view] : program.outputs) touch(view, end);
  return buffers;
}

// The lowest offset at which `wanted` bytes are free of all `taken`, which are ordered by offset.
size_t lowest_gap(const std::vector<const Placement*>& taken, size_t wanted) {
  size_t offset = 0;
  for (const Placement* other : taken) {
    if (offset + wanted <= other->offset) break;
    offset = std::max(offset, other->offset + other->bytes);
  }
  return offset;
}

}  // namespace

int64_t StepSizes::of(Rows rows) const {
  switch (rows) {
    case Rows::tokens:
      return tokens;
    case Rows::seqs:
      return seqs;
    default:
      return logits;
  }
}

ArenaPlan plan_arena(const Program& program, const StepSizes& maxima) {
  ArenaPlan plan;
  plan.buffers = sizes_and_lives(program, maxima);
  std::vector<size_t> order(plan.buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return plan.buffers[a].bytes > plan.buffers[b].bytes; });

  std::vector<const Placement*> placed;  // ordered by offset
  for (const size_t index : order) {
    Placement& place = plan.buffers[index];
    std::vector<const Placement*> alive_together;
    for (const Placement* other : placed) {
      if (place.first <= other->last && other->first <= place.last) alive_together.push_back(other);
    }
    place.offset = lowest_gap(alive_together, place.bytes);
    plan.bytes = std::max(plan.bytes, place.offset + place.bytes);
    plan.bytes_without_reuse += place.bytes;
    const auto at = std::upper_bound(placed.begin(), placed.end(), &place,
                                     [](const Placement* a, const Placement* b) { return a->offset < b->offset; });
    placed.insert(at, &place);
  }
  return plan;
}

std::string ArenaPlan::describe() const {
  std::string text = message("arena of ", bytes, " bytes, ", bytes_without_reuse, " without reuse\n");
  for (size_t i = 0; i < buffers.size(); ++i) {
    const Placement& place = buffers[i];
    text += message("  buffer ", i, ": offset ", place.offset, ", ", place.bytes, " bytes, alive at ops ", place.first,
                    " to ", place.last, "\n");
  }
  return text;
}

}  // namespace pf
