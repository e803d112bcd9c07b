// Contract of the attention ops.
//
//   rope_angles  vector inv_freq[rot / 2]; floats attention_scale; out cs[T, rot] = [cos | sin](position * inv_freq) *
//                attention_scale, computed in double and rounded once
//   rope         in x[T, heads * head_dim], cs[T, rot]; ints heads, head_dim, rot_dim, interleaved; out y. Pairs are
//                (i, i + rot/2) of a head's first rot_dim channels, or (2i, 2i + 1) if interleaved; the rest is copied.
//   cache_write  in k, v [T, kv_heads * head_dim]; ints layer, kv_heads, head_dim; stores row t at step.slots[t]
//   attention    in q[T, heads * head_dim]; ints layer, heads, kv_heads, head_dim, window; floats scale, softcap; out o
//
// attention: the i-th of a sequence's n query tokens stands at position p = seq_len - n + i of its context and sees the
// cached positions max(0, p + 1 - window) ... p (all up to p if window is 0): softmax(cap(q . k * scale)) . v with
// cap(s) = softcap * tanh(s / softcap) unless softcap is 0. Query head h reads the KV head h / (heads / kv_heads).
//
// Limits: block_size a multiple of 16, heads a multiple of kv_heads.
//
// Determinism: the output of one query token and head is the same bits whatever else is in the step, however its prompt
// was cut into chunks and however many threads there are. See attention_kernels.cpp for how.
#pragma once
#include "../../runtime/backend.h"

namespace pf {
namespace {

struct RopeParams {
  int64_t heads, head_dim, rot_dim;
  bool interleaved;
  explicit RopeParams(const PfCall& call)
      : heads(call.ints[0]), head_dim(call.ints[1]), rot_dim(call.ints[2]), interleaved(call.ints[3] != 0) {}
};

struct CacheWriteParams {
  int64_t layer, kv_heads, head_dim;
  explicit CacheWriteParams(const PfCall& call) : layer(call.ints[0]), kv_heads(call.ints[1]), head_dim(call.ints[2]) {}
};

struct AttentionParams {
  int64_t layer, heads, kv_heads, head_dim, window;
  float scale, softcap;
  explicit AttentionParams(const PfCall& call)
      : layer(call.ints[0]),
        heads(call.ints[1]),
        kv_heads(call.ints[2]),
        head_dim(call.ints[3]),
        window(call.ints[4]),
        scale(static_cast<float>(call.floats[0])),
        softcap(static_cast<float>(call.floats[1])) {}
  int64_t group() const { return heads / kv_heads; }
};

}  // namespace
}  // namespace pf
