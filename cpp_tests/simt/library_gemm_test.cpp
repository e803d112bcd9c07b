// Dense products by cuBLASLt, which a library of the tests' own plays (fixtures/fake_cublaslt.cpp): when it is used,
// that it is told the right thing, and that what it refuses is done by the kernel of ours, with a report.
#include "ops/gpu/library_gemm.h"

#include <cstdlib>

#include "gemm_case.h"
#include "gpu/shared_library.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::e4m3;
using gpu::f16;
using gpu::LibraryGemm;

class SimtLibraryGemm : public testing::Test {
 protected:
  void SetUp() override {
    if (kCheckBuild) GTEST_SKIP() << "the library's kernel is not compiled for checks";
    play("");
  }
  void TearDown() override { play(""); }
  static void play(const char* fault) { setenv("PF_FAKE_CUBLASLT", fault, 1); }

  LibraryGemm& library() {
    if (gemm == nullptr) {
      gemm = std::make_unique<LibraryGemm>(runtime, memory, stream, std::vector<std::string>{PF_FAKE_CUBLASLT_PATH});
    }
    return *gemm;
  }

  // Why the library can't be used; "" if it can.
  std::string failure() {
    try {
      library();
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  }

  gpu::Runtime runtime{0};
  gpu::Stream stream = runtime.create_stream();
  gpu::MemoryPool memory{runtime, 0};
  std::unique_ptr<LibraryGemm> gemm;
};

// A product with everything that the library can do: what it gives, and what ours does, for the same numbers.
template <class T>
struct Both {
  Both(gpu::Runtime& runtime, gpu::Stream stream, const LinearCase& c) : runtime(runtime), stream(stream) {
    using Out = gpu::Output<T>;
    const auto rows = static_cast<size_t>(c.m), n = static_cast<size_t>(c.n);
    args.x_stride = args.weight.stride = c.k + c.padding;
    args.y_stride = c.n + c.padding;
    args.residual_stride = c.n + 2 * c.padding;
    args.rows = c.m;
    args.weight.n = c.n;
    args.weight.k = c.k;
    y_size = rows * static_cast<size_t>(args.y_stride);
    args.x = put(drawn_values<T>(rows * static_cast<size_t>(args.x_stride), 1));
    args.weight.data = put(drawn_values<T>(n * static_cast<size_t>(args.weight.stride), 2));
    if (c.residual)
      args.residual = put(converted<Out>(normal_values(rows * static_cast<size_t>(args.residual_stride), 3)));
    if (c.bias) args.bias = put(normal_values(n, 4));
    if (c.scales) {
      args.weight.column_scale = put(normal_values(n, 5));
      args.x_scale = put(normal_values(rows, 6));
    }
    for (float*& y : y_float) y = put(std::vector<float>(y_size, -5.0f));
    for (Out*& y : y_narrow) y = put(converted<Out>(std::vector<float>(y_size, -5.0f)));
    is_float = c.float_output;
  }
  ~Both() {
    for (void* part : parts) runtime.release(part);
  }

  template <class V>
  V* put(const std::vector<V>& values) {
    auto* const part = static_cast<V*>(runtime.allocate(values.size() * sizeof(V), "operand"));
    runtime.copy_in(part, values.data(), values.size() * sizeof(V), stream);
    parts.push_back(part);
    return part;
  }

  gpu::LinearArgs<T> into(size_t i) const {
    gpu::LinearArgs<T> whole = args;
    whole.y = y_narrow[i];
    if (is_float) whole.y_float = y_float[i];
    return whole;
  }
  std::vector<float> result(size_t i) const {
    std::vector<float> values(y_size);
    if (is_float) {
      runtime.copy_out(values.data(), y_float[i], y_size * sizeof(float), stream);
      return values;
    }
    std::vector<gpu::Output<T>> narrow(y_size);
    runtime.copy_out(narrow.data(), y_narrow[i], y_size * sizeof(narrow[0]), stream);
    return floats(narrow);
  }

  gpu::Runtime& runtime;
  gpu::Stream stream;
  gpu::LinearArgs<T> args;
  float* y_float[2];
  gpu::Output<T>* y_narrow[2];
  size_t y_size;
  bool is_float;
  std::vector<void*> parts;
};

// "" if the library did it, with ours' numbers and nothing else written.
template <class T>
std::string compare(gpu::Runtime& runtime, gpu::Stream stream, LibraryGemm& gemm, const LinearCase& c) {
  Both<T> both(runtime, stream, c);
  gemm.measure(both.into(0), c.m);
  if (!gemm.launch(both.into(0), stream)) return "not the library: " + gemm.report();
  gpu::linear(both.into(1), stream);
  const std::vector<float> wanted = both.result(1);
  return difference(both.result(0), {wanted.begin(), wanted.end()}, 2 * kSumError,
                    c.float_output ? 1e-5 : 2 * kRounding<gpu::Output<T>>);
}

TEST_F(SimtLibraryGemm, GivesWhatOursGives) {
  EXPECT_EQ(compare<bf16>(runtime, stream, library(), {.m = 70, .n = 40, .k = 48, .padding = 16}), "");
  EXPECT_EQ(compare<f16>(runtime, stream, library(), {.m = 65, .n = 24, .k = 32, .residual = true, .padding = 8}), "");
  EXPECT_EQ(compare<bf16>(runtime, stream, library(), {.m = 66, .n = 16, .k = 64, .bias = true, .float_output = true}),
            "");
  EXPECT_EQ(compare<e4m3>(runtime, stream, library(), {.m = 67, .n = 32, .k = 64, .scales = true, .padding = 16}), "");
  EXPECT_EQ(compare<e4m3>(runtime, stream, library(), {.m = 67, .n = 32, .k = 64}), "");
}

TEST_F(SimtLibraryGemm, IsNotAskedForWhatItCannotDo) {
  const auto reason = [&](const LinearCase& c) {
    Both<bf16> both(runtime, stream, c);
    library().measure(both.into(0), c.m);
    return library().launch(both.into(0), stream) ? "launched" : "ours";
  };
  EXPECT_STREQ(reason({.m = 64, .n = 16, .k = 16}), "ours") << "few rows";
  EXPECT_STREQ(reason({.m = 80, .n = 12, .k = 16}), "ours") << "rows of y that are not aligned";
  EXPECT_STREQ(reason({.m = 80, .n = 16, .k = 16, .residual = true, .float_output = true}), "ours") << "two types";
  EXPECT_EQ(library().report().find("\"rows\""), std::string::npos) << "nor were any of these compared";
  // The library has no float bias beside a 16-bit result, and is asked to know.
  EXPECT_STREQ(reason({.m = 80, .n = 16, .k = 16, .bias = true}), "ours");
  EXPECT_NE(library().report().find("cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED"), std::string::npos)
      << library().report();
}

TEST_F(SimtLibraryGemm, IsUsedOnlyWhereItIsFasterAndRight) {
  const LinearCase c = {.m = 70, .n = 16, .k = 16};
  for (const auto& [fault, wanted] :
       {std::pair{"slow", "\"theirs\":false,\"launches\":0,\"reason\":\"\""},
        {"wrong", "its result differs by"},
        {"fails", "cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED"},
        {"no algorithm", "cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED"}}) {
    gemm = nullptr;
    play(fault);
    EXPECT_NE(compare<bf16>(runtime, stream, library(), c).find(wanted), std::string::npos) << library().report();
  }
}

TEST_F(SimtLibraryGemm, AFailureLaterOnIsOursAndReported) {
  play("fails late");
  Both<bf16> both(runtime, stream, {.m = 128, .n = 16, .k = 16});
  library().measure(both.into(0), 128);
  EXPECT_TRUE(library().launch(both.into(0), stream));
  auto fewer = both.into(0);
  fewer.rows = 100;
  EXPECT_FALSE(library().launch(fewer, stream));
  EXPECT_NE(library().report().find("CUBLAS_STATUS_EXECUTION_FAILED, with 100 rows"), std::string::npos)
      << library().report();
  EXPECT_FALSE(library().launch(both.into(0), stream)) << "and is not tried again";
}

TEST_F(SimtLibraryGemm, IsCaptured) {
  Both<bf16> both(runtime, stream, {.m = 80, .n = 16, .k = 32});
  library().measure(both.into(0), 80);
  runtime.begin_capture(stream);
  EXPECT_TRUE(library().launch(both.into(0), stream));
  gpu::Graph* const graph = runtime.end_capture(stream);
  EXPECT_EQ(both.result(0)[0], -5.0f) << "nothing ran while it was captured";
  runtime.launch(graph, stream);
  runtime.destroy(graph);
  gpu::linear(both.into(1), stream);
  const std::vector<float> wanted = both.result(1);
  EXPECT_EQ(difference(both.result(0), {wanted.begin(), wanted.end()}, kSumError, 2 * kRounding<bf16>), "");
}

TEST_F(SimtLibraryGemm, RowsAreMeasuredByPowersOfTwo) {
  EXPECT_EQ(gpu::rows_bucket_of(65), 128);
  EXPECT_EQ(gpu::rows_bucket_of(128), 128);
  EXPECT_EQ(gpu::rows_bucket_of(129), 256);
  Both<bf16> both(runtime, stream, {.m = 300, .n = 16, .k = 16});
  library().measure(both.into(0), 300);
  const std::string report = library().report();
  for (const char* rows : {"\"rows\":128,", "\"rows\":256,", "\"rows\":300,"}) {
    EXPECT_NE(report.find(rows), std::string::npos) << report;
  }
}

TEST_F(SimtLibraryGemm, SaysWhyALibraryCannotBeUsed) {
  play("old");
  EXPECT_NE(failure().find("is version 11.9.0, too old"), std::string::npos) << failure();
  play("no handle");
  EXPECT_EQ(failure(), "cublasLtCreate: CUBLAS_STATUS_NOT_INITIALIZED");
  const auto opened = [&](const std::vector<std::string>& names) -> std::string {
    try {
      LibraryGemm(runtime, memory, stream, names);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "opened";
  };
  EXPECT_NE(opened({"libm.so.6"}).find("lacks cublasLtGetVersion"), std::string::npos);
  const std::string missing = opened({"/nowhere/libcublasLt.so.13", "libnowhere.so"});
  EXPECT_NE(missing.find("/nowhere/libcublasLt.so.13"), std::string::npos) << missing;
  EXPECT_NE(missing.find("libnowhere.so"), std::string::npos) << missing;
  play("");
  EXPECT_EQ(opened({"/nowhere/libcublasLt.so.13", PF_FAKE_CUBLASLT_PATH}), "opened");
  EXPECT_EQ(gpu::json_text("a\"b\\c\n"), "\"a\\\"b\\\\c \"");
}

}  // namespace
}  // namespace pf
