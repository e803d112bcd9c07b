// Dense products of many rows by cuBLASLt, where it is faster than the kernel of ours and gives the same numbers.
//
//   LibraryGemm gemm(runtime, memory, stream, {"libcublasLt.so.13"});  // std::runtime_error where it cannot be used
//   gemm.measure(args, most_rows);        // once a shape, while nothing is being captured
//   if (!gemm.launch(args, stream)) linear(args, stream);
//
// Both are timed once for each shape and power of two of the rows, on a stream of numbers; the faster one serves it
// from then on. Theirs must also agree with ours. What the library refuses or fails at is ours, and the report says so.
// It may choose another algorithm for another number of rows: then a row's bits depend on the batch.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../gpu/cublaslt.h"
#include "../../gpu/memory_pool.h"
#include "../../gpu/timing.h"
#include "../linear/gpu/linear.h"

namespace pf::gpu {

constexpr int64_t kLibraryRows = 65;  // fewer are bound by memory, where ours has its narrow tiles

// The rows whose measurement decides for `rows`: a power of two.
int64_t rows_bucket_of(int64_t rows);

class LibraryGemm {
 public:
  LibraryGemm(Runtime& runtime, MemoryPool& memory, Stream stream, const std::vector<std::string>& names);
  ~LibraryGemm();
  LibraryGemm(const LibraryGemm&) = delete;
  LibraryGemm& operator=(const LibraryGemm&) = delete;

  // Decides for products like `args`, whose own x, y and residual are not touched, of up to so many rows.
  // T: f16, bf16, e4m3.
  template <class T>
  void measure(const LinearArgs<T>& args, int64_t most_rows);

  // False, and nothing was launched: the kernel of ours is to do it. May be captured.
  template <class T>
  bool launch(const LinearArgs<T>& args, Stream stream);

  // Its path, version and choices, as the members of an object of JSON.
  std::string report() const;

 private:
  struct Shape {
    int x_type, y_type;
    int64_t n, k, w_stride, x_stride, y_stride, residual_stride;  // the last -1 without one
    bool has_bias, has_scales;
    auto operator<=>(const Shape&) const = default;
  };
  struct Choice {
    int64_t rows;  // that were measured
    bool theirs;
    double our_us, their_us;  // 0: not measured
    int64_t launches;         // of theirs, or captures of one
    std::string reason;       // why not theirs, where that is not the time
  };
  struct Plan;
  using Key = std::pair<Shape, int64_t>;

  template <class T>
  static bool serves(const LinearArgs<T>& args);
  template <class T>
  static Shape shape_of(const LinearArgs<T>& args);
  template <class T>
  void choose(LinearArgs<T> args, Choice& choice);
  template <class T>
  void run(const LinearArgs<T>& args, Stream stream);
  Plan& plan_of(const Shape& shape, int64_t rows);
  void check(cublaslt::Status status, const char* what) const;

  Runtime& runtime_;
  MemoryPool& memory_;
  const Stream stream_;
  const cublaslt::Library library_;
  cublaslt::Handle handle_ = nullptr;
  const Timing timing_;
  void* workspace_ = nullptr;
  std::map<Key, Choice> choices_;               // by rows_bucket_of
  std::map<Key, std::unique_ptr<Plan>> plans_;  // by rows
};

// Text as JSON writes it, with its quotes.
std::string json_text(const std::string& text);

}  // namespace pf::gpu
