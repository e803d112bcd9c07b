// Rows of numbers as kernels go through them: kStep elements at once, one vector where rows allow it and one element
// where they do not, as floats. A kernel holds the code for both (with_step), which of them is known at launch.
#pragma once
#include "gpu.h"

namespace pf::gpu {

template <class T, int kStep>
GPU_DEVICE void load_values(const T* p, float (&values)[kStep], Site at = Site::current()) {
  if constexpr (kStep == 1) {
    values[0] = to_float(*p);
  } else if constexpr (kStep < kPerVec<T>) {
    // Fewer than sixteen bytes: a narrow type read at the pace of a wide one.
    struct Part {
      T elements[kStep];
    };
    const Part part = load_vec<Part>(p, at);
    GPU_UNROLL for (int i = 0; i < kStep; ++i) values[i] = to_float(part.elements[i]);
  } else {
    static_assert(kStep % kPerVec<T> == 0);
    GPU_UNROLL for (int v = 0; v < kStep / kPerVec<T>; ++v) {
      float part[kPerVec<T>];
      unpack<T>(load_vec<Vec16>(p + v * kPerVec<T>, at), part);
      GPU_UNROLL for (int i = 0; i < kPerVec<T>; ++i) values[v * kPerVec<T> + i] = part[i];
    }
  }
}

template <class T, int kStep>
GPU_DEVICE void store_values(T* p, const float (&values)[kStep], Site at = Site::current()) {
  if constexpr (kStep == 1) {
    *p = from_float<T>(values[0]);
  } else if constexpr (kStep < kPerVec<T>) {
    // Fewer than sixteen bytes: a narrow type written at the pace of a wide one.
    struct Part {
      T elements[kStep];
    } part;
    GPU_UNROLL for (int i = 0; i < kStep; ++i) part.elements[i] = from_float<T>(values[i]);
    store_vec(p, part, at);
  } else {
    GPU_UNROLL for (int v = 0; v < kStep / kPerVec<T>; ++v) {
      float part[kPerVec<T>];
      GPU_UNROLL for (int i = 0; i < kPerVec<T>; ++i) part[i] = values[v * kPerVec<T> + i];
      store_vec(p + v * kPerVec<T>, pack<T>(part), at);
    }
  }
}

// Calls fn.template operator()<kStep>() with the elements of a vector of T, or 1.
template <class T, class Fn>
GPU_DEVICE void with_step(bool vectors, Fn&& fn) {
  if (vectors) {
    fn.template operator()<kPerVec<T>>();
  } else {
    fn.template operator()<1>();
  }
}

// Whether all rows can be taken by vectors of T: lengths, distances and the address allow it.
template <class T>
bool rows_are_vectors(const void* p, int64_t length, int64_t stride) {
  constexpr int64_t kVec = kPerVec<T>;
  return reinterpret_cast<uintptr_t>(p) % 16 == 0 && length % kVec == 0 && stride % kVec == 0;
}

}  // namespace pf::gpu
