// Speed of the op attention on the CPU by type of the cache, number of sequences and length of their contexts.
//
//   attention_bench [--isa auto] [--threads 2] [--dtypes f16,i16,i8,f32] [--seqs 1,8,32] [--contexts 250,1000,1900]
//                   [--queries 1] [--shared 0] [--heads 9] [--kv_heads 3] [--dim 64] [--layers 30] [--library PATH]
//
// One measurement runs the layers of a step: every sequence computes its last `queries` tokens, and its first `shared`
// positions lie in blocks that all have in common. Blocks are scattered. The types are measured in turn; what compares
// them is the ratio of medians to the first one's. Another build of the backend is measured with --library.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "options.h"
#include "probe.h"
#include "runtime/device.h"

namespace {

using bench::read_options;
using bench::split;

constexpr int kBlock = 16;
const std::map<std::string, PfDType> kTypes = {{"f32", PF_F32}, {"f16", PF_F16}, {"i16", PF_I16}, {"i8", PF_I8}};

std::vector<float> normal(size_t n) {
  std::mt19937 generator(1);
  std::normal_distribution<float> distribution;
  std::vector<float> values(n);
  for (float& value : values) value = distribution(generator);
  return values;
}

struct Shape {
  int32_t layers, heads, kv_heads, dim, seqs, context, queries, shared;
  int32_t blocks_each() const { return (context + kBlock - 1) / kBlock; }
  int32_t blocks() const { return seqs * blocks_each(); }
};

// A cache of one type, full, and the calls of a step.
class Case {
 public:
  Case(std::shared_ptr<pf::Device> device, const Shape& shape, PfDType type, const std::vector<int32_t>& tables)
      : device_(std::move(device)),
        cache_(device_, {shape.layers, shape.kv_heads, shape.dim, kBlock, shape.blocks(), type}),
        q_(normal(static_cast<size_t>(shape.seqs * shape.queries * shape.heads * shape.dim))),
        out_(q_.size()) {
    fill(shape);
    for (int32_t s = 0; s <= shape.seqs; ++s) starts_.push_back(s * shape.queries);
    lengths_.assign(static_cast<size_t>(shape.seqs), shape.context);
    step_.num_tokens = shape.seqs * shape.queries;
    step_.num_seqs = shape.seqs;
    step_.query_start = starts_.data();
    step_.seq_lens = lengths_.data();
    step_.block_tables = tables.data();
    step_.max_blocks = shape.blocks_each();
    step_.kv = cache_.handle();
    for (int32_t layer = 0; layer < shape.layers; ++layer) {
      PfCall call{};
      call.op = device_->backend().find_op("attention");
      call.num_inputs = call.num_outputs = 1;
      const int64_t width = shape.heads * shape.dim;
      call.in[0] = {q_.data(), step_.num_tokens, width, width, PF_F32};
      call.out[0] = {out_.data(), step_.num_tokens, width, width, PF_F32};
      const int64_t ints[] = {layer, shape.heads, shape.kv_heads, shape.dim, 0};
      std::copy(std::begin(ints), std::end(ints), call.ints);
      call.floats[0] = 0.125;
      calls_.push_back(call);
    }
  }

  double seconds() {
    return probe::seconds([&] { execute(calls_, step_); });
  }
  double bytes() const { return static_cast<double>(cache_.bytes()); }

 private:
  void execute(const std::vector<PfCall>& calls, const PfStep& step) {
    device_->check(
        device_->backend().execute(device_->handle(), calls.data(), static_cast<int32_t>(calls.size()), &step),
        "running attention");
  }
  void fill(const Shape& shape) {
    const int64_t width = shape.kv_heads * shape.dim;
    std::vector<float> kv = normal(static_cast<size_t>(kBlock * width));
    for (int32_t block = 0; block < shape.blocks(); ++block) {
      std::vector<int32_t> slots(kBlock);
      std::iota(slots.begin(), slots.end(), block * kBlock);
      PfStep step{};
      step.num_tokens = kBlock;
      step.slots = slots.data();
      step.kv = cache_.handle();
      std::vector<PfCall> calls;
      for (int32_t layer = 0; layer < shape.layers; ++layer) {
        PfCall call{};
        call.op = device_->backend().find_op("cache_write");
        call.num_inputs = 2;
        call.in[0] = call.in[1] = {kv.data(), kBlock, width, width, PF_F32};
        const int64_t ints[] = {layer, shape.kv_heads, shape.dim};
        std::copy(std::begin(ints), std::end(ints), call.ints);
        calls.push_back(call);
      }
      execute(calls, step);
    }
  }

  std::shared_ptr<pf::Device> device_;
  pf::KvCache cache_;
  std::vector<float> q_, out_;
  std::vector<int32_t> starts_, lengths_;
  std::vector<PfCall> calls_;
  PfStep step_{};
};

void measure(const std::shared_ptr<pf::Device>& device, const Shape& shape, const std::vector<std::string>& types) {
  std::vector<int32_t> tables(static_cast<size_t>(shape.blocks()));
  std::iota(tables.begin(), tables.end(), 0);
  std::shuffle(tables.begin(), tables.end(), std::mt19937(1));
  for (int32_t s = 1; s < shape.seqs; ++s) {
    std::copy_n(tables.begin(), shape.shared / kBlock, tables.begin() + s * shape.blocks_each());
  }
  std::vector<std::unique_ptr<Case>> cases;
  for (const std::string& type : types) {
    cases.push_back(std::make_unique<Case>(device, shape, kTypes.at(type), tables));
  }
  std::vector<std::vector<double>> times(cases.size());
  double spent = 0;
  while (spent < 1.0 || times[0].size() < 5) {
    for (size_t i = 0; i < cases.size(); ++i) {
      times[i].push_back(cases[i]->seconds());
      spent += times[i].back();
    }
  }
  double positions = 0;  // that a query sees, over all queries
  for (int32_t i = 0; i < shape.queries; ++i) positions += shape.context - i;
  const double flops = 4.0 * shape.dim * shape.heads * shape.layers * shape.seqs * positions;
  double first = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    std::sort(times[i].begin(), times[i].end());
    const double best = times[i][0], median = times[i][times[i].size() / 2];
    if (i == 0) first = median;
    std::printf(
        "%-4s seqs %3d context %5d queries %4d shared %4d  ms best %8.3f median %8.3f | GFLOP/s %6.1f | cache "
        "GB/s %5.1f | time ratio %4.2f\n",
        types[i].c_str(), shape.seqs, shape.context, shape.queries, shape.shared, best * 1e3, median * 1e3,
        flops / median / 1e9, cases[i]->bytes() / median / 1e9, median / first);
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options = {{"isa", "auto"},
                                                {"threads", "2"},
                                                {"dtypes", "f16,i16,i8,f32"},
                                                {"seqs", "1,8,32"},
                                                {"contexts", "250,1000,1900"},
                                                {"queries", "1"},
                                                {"shared", "0"},
                                                {"heads", "9"},
                                                {"kv_heads", "3"},
                                                {"dim", "64"},
                                                {"layers", "30"},
                                                {"library", PF_CPU_BACKEND_PATH}};
  if (!read_options(argc, argv, options)) return 2;
  const auto device = std::make_shared<pf::Device>(options["library"], std::stoi(options["threads"]), options["isa"]);
  std::printf("%s\n", device->backend().device_describe(device->handle()));
  const auto number = [&](const char* name) { return static_cast<int32_t>(std::stoi(options[name])); };
  for (const std::string& context : split(options["contexts"])) {
    for (const std::string& seqs : split(options["seqs"])) {
      const Shape shape = {number("layers"),
                           number("heads"),
                           number("kv_heads"),
                           number("dim"),
                           std::stoi(seqs),
                           std::stoi(context),
                           std::min(number("queries"), static_cast<int32_t>(std::stoi(context))),
                           number("shared")};
      measure(device, shape, split(options["dtypes"]));
    }
  }
  return 0;
}
