// What every kernel's accesses cost, at shapes of real models: one table. Each instance of a kernel must be on it; each
// of its accesses is of whole sectors and meets no bank twice, but for those that a row names with what was measured
// (docs/design/gpu.md tells why). How much shared memory launches ask for is compared with ci/gpu_budgets.json.
#include <fstream>
#include <regex>

#include "access_case.h"
#include "ops/activation/gpu/activation.h"
#include "ops/attention/gpu/attention.h"
#include "ops/attention/gpu/blocks.h"
#include "ops/attention/gpu/mrope.h"
#include "ops/attention/gpu/prefill.h"
#include "ops/comm/gpu/all_reduce.h"
#include "ops/linear/gpu/embed.h"
#include "ops/linear/gpu/quantize.h"
#include "ops/lora/gpu/lora.h"
#include "ops/moe/gpu/moe.h"
#include "ops/norm/gpu/layer_norm.h"
#include "ops/norm/gpu/norm.h"
#include "ops/norm/gpu/norm_quantize.h"
#include "ops/sample/gpu/sample.h"

#if PF_SIMT_CHECK && GPU_HAS_BULK

namespace pf {
namespace {

using gpu::bf16;
using gpu::e4m3;
using gpu::f16;

using Table = std::vector<Counted>;

template <class T>
constexpr const char* kName = "f32";
template <>
constexpr const char* kName<f16> = "f16";
template <>
constexpr const char* kName<bf16> = "bf16";
template <>
constexpr const char* kName<e4m3> = "e4m3";
template <>
constexpr const char* kName<int8_t> = "int8";

constexpr int64_t kRows = 2, kHidden = 4096, kInner = 6144, kVocab = 64;
constexpr float kEps = 1e-5f;

// --- rows ------------------------------------------------------------------------------------------------------------

template <class T>
void add_rows(Table& table) {
  const std::string of = std::string(" of ") + kName<T>;
  table.push_back({"add" + of, [](Inputs& in) {
                     gpu::add(in.drawn<T>(kRows * kHidden), kHidden, in.drawn<T>(kRows * kHidden), kHidden,
                              in.output<T>(kRows * kHidden), kHidden, kRows, kHidden, in.device());
                   }});
  table.push_back({"rms_norm" + of, [](Inputs& in) {
                     gpu::rms_norm<T>(
                         {in.drawn<T>(kRows * kHidden), in.drawn<T>(kRows * kHidden), in.drawn<float>(kHidden),
                          in.output<T>(kRows * kHidden), in.output<T>(kRows * kHidden), kRows, 1, kHidden, kHidden,
                          kHidden, kHidden, kHidden, kEps},
                         in.device());
                   }});
  table.push_back({"layer_norm" + of, [](Inputs& in) {
                     gpu::layer_norm<T>(
                         {in.drawn<T>(kRows * kHidden), in.drawn<T>(kRows * kHidden), in.drawn<float>(kHidden),
                          in.drawn<float>(kHidden), in.output<T>(kRows * kHidden), in.output<T>(kRows * kHidden), kRows,
                          kHidden, kHidden, kHidden, kHidden, kHidden, kEps},
                         in.device());
                   }});
  table.push_back({"silu_mul" + of, [](Inputs& in) {
                     gpu::silu_mul(in.drawn<T>(kRows * 2 * kInner), 2 * kInner, in.output<T>(kRows * kInner), kInner,
                                   kRows, kInner, in.device());
                   }});
  table.push_back({"gelu" + of, [](Inputs& in) {
                     gpu::gelu(in.drawn<T>(kRows * kInner), kInner, in.output<T>(kRows * kInner), kInner, kRows, kInner,
                               gpu::Gelu::kErf, false, in.device());
                   }});
  table.push_back({"gather_rows" + of, [](Inputs& in) {
                     gpu::gather_rows(in.drawn<T>(9 * kHidden), kHidden, in.counted(kRows, 8, -3),
                                      in.output<T>(kRows * kHidden), kHidden, kRows, kHidden, in.device());
                   }});
  table.push_back({"embed" + of, [](Inputs& in) {
                     gpu::embed(in.drawn<T>(kVocab * kHidden), kVocab, in.counted(kRows, 9, 30),
                                in.output<T>(kRows * kHidden), kHidden, kRows, kHidden, 1.5f, in.device());
                   }});
  for (const WeightFormat format : {WeightFormat::kInt4, WeightFormat::kInt8, WeightFormat::kE4m3}) {
    const WeightLayout layout = {format, format == WeightFormat::kE4m3 ? 0 : 32};
    table.push_back({"embed" + of + ", packed as " +
                         (format == WeightFormat::kInt4   ? "int4"
                          : format == WeightFormat::kInt8 ? "int8"
                                                          : "e4m3"),
                     [=](Inputs& in) {
                       gpu::embed_packed(in.bytes(gpu::packed_bytes(layout, kVocab, kHidden)), layout, kVocab,
                                         in.counted(kRows, 9, 30), in.output<T>(kRows * kHidden), kHidden, kRows,
                                         kHidden, 1.0f, in.device());
                     }});
  }
}

template <class T, class Q>
void add_norm_quantize(Table& table, int64_t group) {
  table.push_back({std::string("rms_norm of ") + kName<T> + " to " + kName<Q>, [=](Inputs& in) {
                     gpu::rms_norm_quantize<T, Q>(
                         {in.drawn<T>(kRows * kHidden), in.drawn<T>(kRows * kHidden), in.drawn<float>(kHidden),
                          in.output<T>(kRows * kHidden), in.output<Q>(kRows * kHidden), in.output<float>(kRows * 32),
                          kRows, kHidden, group, kHidden, kHidden, kHidden, kEps},
                         in.device());
                   }});
}

template <class T>
void add_quantize(Table& table) {
  table.push_back({std::string("quantize_rows of ") + kName<T>, [](Inputs& in) {
                     gpu::quantize_rows<T>({in.drawn<T>(kRows * kHidden), in.output<e4m3>(kRows * kHidden),
                                            in.output<float>(kRows), kRows, kHidden, kHidden, kHidden},
                                           in.device());
                   }});
}

// --- the cache -------------------------------------------------------------------------------------------------------

constexpr int kBlock = 16, kKvHeads = 1;

template <class C>
gpu::KvLayer<C> layer(Inputs& in, int blocks, int head_dim) {
  const int64_t heads = int64_t{blocks} * kBlock * kKvHeads;
  return {in.drawn<C>(heads * head_dim), in.drawn<C>(heads * head_dim), kBlock, kKvHeads, head_dim, 1.0f, 1.0f,
          in.drawn<float>(heads),        in.drawn<float>(heads)};
}

template <class T, class C>
void add_cache_write(Table& table) {
  table.push_back({std::string("rope_cache of ") + kName<T> + " to " + kName<C>, [](Inputs& in) {
                     constexpr int kDim = 128, kHeads = 8, kTokens = 3;
                     constexpr int64_t kWidth = kDim * (kHeads + 2 * kKvHeads);
                     T* const qkv = in.drawn<T>(kTokens * kWidth);
                     gpu::rope_cache<T, C>(
                         {qkv, qkv + kHeads * kDim, qkv + (kHeads + kKvHeads) * kDim, in.drawn<float>(kTokens * kDim),
                          in.counted(kTokens, 3, 17), in.output<T>(kTokens * kHeads * kDim), layer<C>(in, 4, kDim),
                          kWidth, kWidth, kWidth, kDim, kHeads * kDim, kTokens, kHeads, kDim, false},
                         in.device());
                   }});
}

template <class C>
void add_copies(Table& table) {
  table.push_back({std::string("copy_blocks of ") + kName<C>, [](Inputs& in) {
                     const gpu::KvLayer<C> cache = layer<C>(in, 6, 128);
                     gpu::copy_blocks(cache, in.counted(3), cache, in.counted(3, 5, -1), 3, in.device());
                   }});
}

void add_pool(Table& table) {
  table.push_back(
      {"angles", [](Inputs& in) {
         gpu::rope_angles(in.counted(3), in.drawn<float>(64), in.output<float>(3 * 128), 128, 3, 64, 1.0, in.device());
         gpu::mrope_angles(
             {in.counted(9), in.drawn<float>(64), in.output<float>(3 * 128), 128, 3, 64, {16, 24, 24}, false, 1.0},
             in.device());
       }});
  table.push_back({"the block pool", [](Inputs& in) {
                     // Sequences of 40 tokens; each gets 8 more, the second half are forks of the first.
                     constexpr int kSeqs = 64, kMaxBlocks = 8, kBlocks = 4096, kLength = 40;
                     std::vector<uint32_t> free(kBlocks / 32, ~0u);
                     for (int w = 0; w < kSeqs / 2 * 3 / 32; ++w) free[static_cast<size_t>(w)] = 0;
                     std::vector<int32_t> refs(kBlocks, 0), tables(kSeqs * kMaxBlocks, 0), lens(kSeqs, 0);
                     for (int s = 0; s < kSeqs / 2; ++s) {
                       lens[static_cast<size_t>(s)] = kLength;
                       for (int i = 0; i < 3; ++i) {
                         tables[static_cast<size_t>(s * kMaxBlocks + i)] = 3 * s + i;
                         refs[static_cast<size_t>(3 * s + i)] = 1;
                       }
                     }
                     const gpu::BlockPool pool = {in.kept(free), in.kept(refs), kBlocks, kBlock};
                     const gpu::BlockTables rows = {in.kept(tables), in.kept(lens), kSeqs, kMaxBlocks};
                     gpu::fork_tables(pool, rows, in.counted(kSeqs / 2), in.counted(kSeqs / 2, kSeqs / 2), kSeqs / 2,
                                      in.device());
                     gpu::extend_tables({pool, rows, in.counted(kSeqs + 1, 0, 8), in.output<int32_t>(kSeqs * 8),
                                         in.output<int32_t>(kSeqs), in.output<int32_t>(kSeqs),
                                         in.output<int32_t>(kSeqs), in.output<int32_t>(kSeqs + kBlocks), kSeqs * 8},
                                        in.device());
                     gpu::release_tables(pool, rows, in.counted(kSeqs / 2), kSeqs / 2, in.device());
                   }});
  table.push_back({"gather and scatter", [](Inputs& in) {
                     constexpr int64_t kBytes = 4096;
                     std::vector<void*> layers;
                     for (int i = 0; i < 4; ++i) layers.push_back(in.bytes(6 * kBytes));
                     const gpu::TransferArgs args = {
                         in.kept(layers), in.counted(3, 4, -2), in.bytes(3 * 4 * kBytes), kBytes, 3, 2};
                     gpu::gather_blocks(args, in.device());
                     gpu::scatter_blocks(args, in.device());
                   }});
}

// --- attention -------------------------------------------------------------------------------------------------------

// One sequence of `context` positions, the last `queries` of which are asked for.
template <class Args, class T, class C>
Args attention_of(Inputs& in, int head_dim, int group, int context, int queries) {
  const int blocks = (context + kBlock - 1) / kBlock, heads = group * kKvHeads;
  const int64_t width = int64_t{heads} * head_dim;
  Args args{};
  args.q = in.drawn<T>(queries * width);
  args.out = in.output<T>(queries * width);
  args.cache = layer<C>(in, blocks + 1, head_dim);
  args.query_start = in.kept<int32_t>({0, queries});
  args.seq_lens = in.kept<int32_t>({context});
  args.block_tables = in.counted(blocks, blocks, -1);
  args.q_stride = args.out_stride = width;
  args.tokens = queries;
  args.seqs = 1;
  args.heads = heads;
  args.max_blocks = blocks;
  args.scale = 0.1f;
  return args;
}

template <class T, class C>
void add_decode(Table& table) {
  for (const int head_dim : {64, 80, 128, 256}) {
    for (const int group : {1, 4}) {
      for (const bool bulk : {true, false}) {
        if (group == 1 && head_dim != 128) continue;  // no kernel of its own
        const std::string what = std::string("decode, ") + kName<T> + " over " + kName<C> + ", " +
                                 std::to_string(group) + " heads of " + std::to_string(head_dim) +
                                 (bulk ? ", bulk copies" : "");
        table.push_back({what, [=](Inputs& in) {
                           in.device()->options.bulk = bulk;
                           constexpr int kContext = gpu::kAttentionSplit + 64;
                           auto args = attention_of<gpu::AttentionArgs<T, C>, T, C>(in, head_dim, group, kContext, 1);
                           args.max_len = kContext;
                           args.partials = in.output<float>(
                               static_cast<int64_t>(gpu::attention_partials(1, group * kKvHeads, head_dim, kContext)));
                           gpu::attention(args, in.device());
                         }});
      }
    }
  }
}

template <class T, class C>
void add_prefill(Table& table) {
  for (const int head_dim : {64, 80, 96, 128, 256}) {
    const std::string what =
        std::string("prefill, ") + kName<T> + " over " + kName<C> + ", " + std::to_string(head_dim);
    table.push_back({what, [=](Inputs& in) {
                       gpu::prefill_attention(attention_of<gpu::PrefillArgs<T, C>, T, C>(in, head_dim, 4, 160, 32),
                                              in.device());
                     }});
  }
}

// --- matrices --------------------------------------------------------------------------------------------------------

template <class T>
gpu::GemmWeight weight_of(Inputs& in, const WeightLayout& layout, int experts, int64_t n, int64_t k) {
  gpu::GemmWeight w;
  if (layout.format == WeightFormat::kPlain) {
    w.data = in.drawn<T>(experts * n * k);
  } else {
    w.data = in.bytes(static_cast<size_t>(experts) * gpu::packed_bytes(layout, n, k));
  }
  w.n = n;
  w.k = w.stride = k;
  w.layout = layout;
  return w;
}

std::string name_of(const WeightLayout& layout) {
  static const char* const kNames[] = {"plain", "int8", "int4", "e4m3"};
  return std::string(kNames[static_cast<int>(layout.format)]) + " weights" +
         (layout.group == 0 ? "" : " in groups of " + std::to_string(layout.group));
}

// `padding`: rows of x lie so far apart that they are no vectors, which GPUs with tensor cores leave to FFMA.
template <class T>
void add_linear(Table& table, int64_t rows, const WeightLayout& layout, int64_t padding = 0) {
  const std::string what = std::string("linear, ") + kName<T> + ", " + name_of(layout) + ", " + std::to_string(rows) +
                           " rows" + (padding == 0 ? "" : " that are no vectors");
  table.push_back({what, [=](Inputs& in) {
                     constexpr int64_t kN = 128, kK = 256;
                     using Out = gpu::Output<T>;
                     gpu::LinearArgs<T> args;
                     args.x = in.drawn<T>(rows * (kK + padding));
                     args.x_stride = kK + padding;
                     args.weight = weight_of<T>(in, layout, 1, kN, kK);
                     args.weight.column_scale = in.drawn<float>(kN);
                     args.x_scale = in.drawn<float>(rows);
                     args.bias = in.drawn<float>(kN);
                     args.residual = in.drawn<Out>(rows * kN);
                     args.y = in.output<Out>(rows * kN);
                     args.rows = rows;
                     args.y_stride = args.residual_stride = kN;
                     gpu::linear(args, in.device());
                   }});
}

template <class T>
void add_linears(Table& table) {
  const WeightLayout layouts[] = {{},
                                  {WeightFormat::kInt8, 32},
                                  {WeightFormat::kInt4, 32},
                                  {WeightFormat::kInt4, 128, gpu::Offset::kZero},
                                  {WeightFormat::kE4m3, 0}};
  for (const WeightLayout& layout : layouts) {
    if (sizeof(T) == 4) {
      add_linear<T>(table, 64, layout);
      continue;
    }
    for (const int64_t rows : {16, 80, 144}) add_linear<T>(table, rows, layout);  // each tile of its own
  }
  if (sizeof(T) == 2) add_linear<T>(table, 16, {}, 1);
}

template <class T>
void add_mixture(Table& table) {
  for (const int tokens : {24, 64}) {  // 16 and 64 rows of an expert in a block
    for (const WeightLayout& layout : {WeightLayout{}, WeightLayout{WeightFormat::kInt4, 32}}) {
      const std::string what =
          std::string("mixture, ") + kName<T> + ", " + name_of(layout) + ", " + std::to_string(tokens) + " tokens";
      table.push_back({what, [=](Inputs& in) {
                         constexpr int kExperts = 4, kTopK = 2;
                         constexpr int64_t kWide = 128, kInside = 128;
                         float* const weights = in.output<float>(tokens * kTopK);
                         int32_t* const ids = in.output<int32_t>(tokens * kTopK);
                         gpu::moe_route<T>({in.drawn<T>(tokens * kExperts), nullptr, ids, weights, kExperts, tokens,
                                            kExperts, kTopK, false, true, 1.0f},
                                           in.device());
                         gpu::MoeArgs<T> args{};
                         args.x = in.drawn<T>(tokens * kWide);
                         args.ids = ids;
                         args.weights = weights;
                         args.gate_up = weight_of<T>(in, layout, kExperts, 2 * kInside, kWide);
                         args.down = weight_of<T>(in, layout, kExperts, kWide, kInside);
                         args.residual = in.drawn<T>(tokens * kWide);
                         args.y = in.output<T>(tokens * kWide);
                         args.scratch = in.output<uint8_t>(
                             static_cast<int64_t>(gpu::moe_scratch<T>(tokens, kTopK, kExperts, kWide, kInside)));
                         args.x_stride = args.y_stride = args.residual_stride = kWide;
                         args.tokens = tokens;
                         args.experts = kExperts;
                         args.top_k = kTopK;
                         gpu::moe(args, in.device());
                       }});
    }
  }
}

// The most shared memory that alignment can ask for.
void add_most_experts(Table& table) {
  table.push_back({"alignment of as many experts as there can be", [](Inputs& in) {
                     constexpr int kSlots = 64, kRowsOfBlock = 16;
                     in.device()->options.check = false;  // of thousands of blocks only the launch matters
                     const int64_t blocks = gpu::moe_blocks(kSlots, gpu::kMaxExperts, kRowsOfBlock);
                     gpu::moe_align({in.counted(kSlots, 7, 63), in.output<int32_t>(blocks),
                                     in.output<int32_t>(blocks * kRowsOfBlock), kSlots, gpu::kMaxExperts, kRowsOfBlock},
                                    in.device());
                   }});
}

template <class T>
void add_lora(Table& table) {
  table.push_back({std::string("lora of ") + kName<T>, [](Inputs& in) {
                     constexpr int kRowsOfOne = 8, kRank = 16, kSlots = 2;
                     constexpr int64_t kK = 1024, kN = 1024;
                     gpu::lora<T>({in.drawn<T>(2 * kRowsOfOne * kK), in.drawn<T>(2 * kRowsOfOne * kN),
                                   in.drawn<T>(kSlots * kRank * kK), in.drawn<T>(kSlots * kRank * kN),
                                   in.filled<int32_t>(kSlots, kRank), in.drawn<float>(kSlots),
                                   in.counted(3, 0, kRowsOfOne), in.counted(2, 1, -1),
                                   in.output<float>(2 * kRowsOfOne * kRank), kK, kN, kK, kN, 2 * kRowsOfOne, 2, kRank},
                                  in.device());
                   }});
}

// --- sampling and ranks ----------------------------------------------------------------------------------------------

void add_sampling(Table& table) {
  table.push_back(
      {"sampling", [](Inputs& in) {
         // Greedy; top-k and top-p with log-probabilities; under a mask with penalties; scored.
         constexpr int kRowsHere = 4, kTop = 8, kMasks = 1;
         constexpr int64_t kTokens = 4096;
         gpu::SampleArgs args{};
         args.logits = in.drawn<float>(kRowsHere * kTokens);
         args.stride = kTokens;
         args.rows = kRowsHere;
         args.scratch = in.output<float>(kRowsHere * kTokens);
         PfSampling& s = args.sampling;
         s.temperature = in.kept<float>({0, 0.8f, 1, 1});
         s.top_p = in.kept<float>({1, 0.9f, 1, 1});
         s.min_p = in.filled<float>(kRowsHere);
         s.top_k = in.kept<int32_t>({0, 50, 0, 0});
         s.repetition = in.kept<float>({1, 1, 1.2f, 1});
         s.presence = s.frequency = in.kept<float>({0, 0, 0.5f, 0});
         s.seed = in.filled<uint64_t>(kRowsHere, 7);
         s.stream = s.position = in.filled<uint32_t>(kRowsHere, 3);
         s.num_logprobs = in.kept<int32_t>({-1, kTop, -1, 0});
         s.target = in.kept<int32_t>({-1, -1, -1, 40});
         s.defer = s.weigh = in.filled<uint8_t>(kRowsHere);
         s.mask_row = in.kept<int32_t>({-1, -1, 0, -1});
         s.masks = in.filled<uint32_t>(kMasks * kTokens / 32, 0x55555555u);
         s.bias_start = in.filled<int32_t>(kRowsHere + 1);
         s.bias_tokens = in.counted(1);
         s.bias_values = in.filled<float>(1);
         s.count_start = in.kept<int32_t>({0, 0, 0, 32, 32});
         s.count_tokens = in.counted(32, 0, 64);
         s.count_values = in.filled<int32_t>(32, 1);
         s.num_masks = kMasks;
         s.max_logprobs = kTop;
         s.vocab = kTokens;
         args.sampled = {
             in.output<int32_t>(kRowsHere),         in.output<float>(kRowsHere),        in.output<int32_t>(kRowsHere),
             in.output<int32_t>(kRowsHere * kTop),  in.output<float>(kRowsHere * kTop), in.output<uint8_t>(kRowsHere),
             in.output<float>(kRowsHere * kTokens), in.output<float>(kRowsHere),        in.output<float>(kRowsHere)};
         gpu::sample(args, in.device());
       }});
}

template <class T>
void add_all_reduce(Table& table) {
  for (const gpu::AllReduce kind : {gpu::AllReduce::kOneShot, gpu::AllReduce::kTwoShot}) {
    const std::string what =
        std::string("all_reduce of ") + kName<T> + (kind == gpu::AllReduce::kOneShot ? ", one shot" : ", two shots");
    table.push_back({what, [=](Inputs& in) {
                       constexpr int kRanks = 2;
                       in.device()->options.concurrent_blocks = true;
                       gpu::AllReduceArgs<T> args{};
                       for (int r = 0; r < kRanks; ++r) {
                         args.in[r] = in.drawn<T>(kHidden);
                         args.out[r] = in.output<T>(kHidden);
                         args.scratch[r] = in.output<T>(kHidden);
                         args.flags[r] = in.filled<uint32_t>(gpu::kAllReduceFlags);
                       }
                       args.n = kHidden;
                       args.ranks = kRanks;
                       gpu::all_reduce(args, kind, in.device(), kRanks);
                     }});
  }
}

// --- the table -------------------------------------------------------------------------------------------------------

Table whole_table() {
  Table table;
  add_rows<float>(table);
  add_rows<f16>(table);
  add_rows<bf16>(table);
  add_norm_quantize<float, int8_t>(table, 0);
  add_norm_quantize<f16, e4m3>(table, 0);
  add_norm_quantize<bf16, e4m3>(table, 0);
  add_norm_quantize<bf16, int8_t>(table, 128);
  add_quantize<f16>(table);
  add_quantize<bf16>(table);
  add_cache_write<float, float>(table);
  add_cache_write<float, f16>(table);
  add_cache_write<float, int8_t>(table);
  add_cache_write<f16, f16>(table);
  add_cache_write<bf16, bf16>(table);
  add_cache_write<bf16, e4m3>(table);
  add_cache_write<bf16, int8_t>(table);
  add_copies<bf16>(table);
  add_copies<int8_t>(table);
  add_pool(table);
  add_decode<float, float>(table);
  add_decode<float, f16>(table);
  add_decode<float, int8_t>(table);
  add_decode<f16, f16>(table);
  add_decode<bf16, bf16>(table);
  add_decode<bf16, e4m3>(table);
  add_decode<bf16, int8_t>(table);
  add_prefill<f16, f16>(table);
  add_prefill<bf16, bf16>(table);
  add_prefill<bf16, e4m3>(table);
  add_prefill<bf16, int8_t>(table);
  for (const int64_t rows : {16, 144}) {
    add_linear<e4m3>(table, rows, {});
    add_linear<int8_t>(table, rows, {});
  }
  add_linears<float>(table);
  add_linears<f16>(table);
  add_linears<bf16>(table);
  add_mixture<float>(table);
  add_mixture<f16>(table);
  add_mixture<bf16>(table);
  add_most_experts(table);
  add_lora<float>(table);
  add_lora<f16>(table);
  add_lora<bf16>(table);
  add_sampling(table);
  add_all_reduce<float>(table);
  add_all_reduce<f16>(table);
  add_all_reduce<bf16>(table);
  return table;
}

// What cost more than it had to: for each file and kind of access the worst of its lines, with that line's words.
std::map<Costlier, std::string> costlier_of(simt::Device& device) {
  std::map<Costlier, std::string> found;
  for (const simt::AccessCount& count : device.take_counts(1.0)) {
    const Costlier one = {count.at.substr(0, count.at.find(':')), count.shared, count.write, count.factor()};
    const auto same = std::ranges::find_if(found, [&](const auto& known) {
      return known.first.file == one.file && known.first.shared == one.shared && known.first.write == one.write;
    });
    if (same != found.end() && same->first.factor >= one.factor) continue;
    if (same != found.end()) found.erase(same);
    found[one] =
        std::to_string(count.bytes) + " bytes a lane, " + std::to_string(count.requests) + " requests, at " + count.at;
  }
  return found;
}

std::string words_of(const Costlier& c) {
  return std::string(c.shared ? "shared " : "global ") + (c.write ? "writes" : "reads") + " of " + c.file + " cost x " +
         std::to_string(c.factor);
}

// `dynamic_shared` of the budgets of CUDA's kernels is the most that a launch of the table asks for.
void expect_budgets_of_shared_memory(const std::map<std::string, size_t>& launched) {
  std::ifstream file(PF_GPU_BUDGETS);
  ASSERT_TRUE(file) << PF_GPU_BUDGETS;
  const std::regex kernel_of(R"rx("kernel": "((?:[^"\\]|\\.)*)")rx"), bytes_of(R"rx("dynamic_shared": (\d+))rx");
  std::map<std::string, size_t> without = launched;  // kernels whose bytes no budget told
  int budgets = 0;
  for (std::string line; std::getline(file, line);) {  // a kernel a line
    std::smatch kernel, bytes;
    if (!std::regex_search(line, kernel, kernel_of)) continue;
    const std::string pattern = std::regex_replace(kernel[1].str(), std::regex(R"(\\\\)"), R"(\)");
    size_t most = 0;
    for (const auto& [name, asked] : launched) {
      if (!std::regex_search(name, std::regex(pattern))) continue;
      most = std::max(most, asked);
      without.erase(name);
    }
    const size_t told = std::regex_search(line, bytes, bytes_of) ? std::stoul(bytes[1].str()) : 0;
    EXPECT_EQ(told, most) << "dynamic_shared of " << pattern << " in " << PF_GPU_BUDGETS;
    ++budgets;
  }
  EXPECT_GT(budgets, 20);
  for (const auto& [name, asked] : without) EXPECT_EQ(asked, 0u) << name << " has no budget";
}

constexpr double kSameFactor = 0.005;

// All that cost more is named, and all that is named still costs as much.
void expect_costlier(const Counted& row, const std::map<Costlier, std::string>& found) {
  const std::vector<Costlier> costlier = known_costs(row.what);
  const auto same = [](const Costlier& a, const Costlier& b) {
    return a.file == b.file && a.shared == b.shared && a.write == b.write &&
           std::abs(a.factor - b.factor) <= kSameFactor;
  };
  for (const auto& [one, at] : found) {
    const bool named = std::ranges::any_of(costlier, [&](const Costlier& c) { return same(c, one); });
    EXPECT_TRUE(named) << row.what << ": " << words_of(one) << ", " << at;
  }
  for (const Costlier& one : costlier) {
    const bool met = std::ranges::any_of(found, [&](const auto& f) { return same(f.first, one); });
    EXPECT_TRUE(met) << row.what << ": it is no longer so that " << words_of(one);
  }
}

TEST(SimtAccesses, EveryKernelIsCountedAndFull) {
  const std::map<const void*, std::string> kernels = kernels_of_this_program();
  ASSERT_GE(kernels.size(), 80u);
  std::map<std::string, size_t> launched;  // kernel → the most shared memory that a launch asked for
  simt::Device device;                     // one for all: it knows the lines that it has met
  for (const Counted& row : whole_table()) {
    device.options = {};
    device.options.count = true;
    Inputs inputs(device);
    row.run(inputs);
    for (const simt::Launch& launch : device.take_launches()) {
      const auto kernel = kernels.find(launch.kernel);
      ASSERT_NE(kernel, kernels.end()) << row.what << " launches a kernel without a name";
      size_t& most = launched[kernel->second];
      most = std::max(most, launch.shared_bytes);
    }
    expect_costlier(row, costlier_of(device));
  }
  for (const auto& [address, name] : kernels) EXPECT_TRUE(launched.contains(name)) << name << " is not on the table";
  expect_budgets_of_shared_memory(launched);
}

}  // namespace
}  // namespace pf

#endif
