#include "library_gemm.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <type_traits>

namespace pf::gpu {
namespace {

using cublaslt::DataType;

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA advises for sm_90
constexpr uint32_t kAlignment = 16;                   // of every row of every operand
constexpr int64_t kComparedRows = 64;

template <class T>
constexpr DataType kTypeOf = cublaslt::kFloat;
template <>
constexpr DataType kTypeOf<f16> = cublaslt::kHalf;
template <>
constexpr DataType kTypeOf<bf16> = cublaslt::kBfloat16;
template <>
constexpr DataType kTypeOf<e4m3> = cublaslt::kE4m3;

const char* name_of(int type) {
  switch (type) {
    case cublaslt::kHalf:
      return "f16";
    case cublaslt::kBfloat16:
      return "bf16";
    case cublaslt::kE4m3:
      return "e4m3";
    default:
      return "f32";
  }
}

template <class T>
bool has_aligned_rows(const T* p, int64_t stride) {
  return reinterpret_cast<uintptr_t>(p) % kAlignment == 0 && stride * static_cast<int64_t>(sizeof(T)) % kAlignment == 0;
}

// Memory of the pool for a moment.
class Borrowed {
 public:
  Borrowed(MemoryPool& memory, int64_t bytes) : memory_(memory) {
    data_ = memory.allocate(static_cast<size_t>(bytes), "comparison of GEMMs");
  }
  ~Borrowed() { memory_.release(data_); }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  MemoryPool& memory_;
  void* data_;
};

std::string rounded(double value) {
  return std::to_string(std::lround(value * 10) / 10) + "." + std::to_string(std::lround(value * 10) % 10);
}

}  // namespace

int64_t rows_bucket_of(int64_t rows) {
  int64_t bucket = 2 * (kLibraryRows - 1);
  while (bucket < rows) bucket *= 2;
  return bucket;
}

std::string json_text(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return quoted + '"';
}

// The library's description of one product, made once a shape and number of rows. It stores columns: our rows of W and
// of x are its columns, so that its A is W, transposed, its B is x and its D is y.
struct LibraryGemm::Plan {
  explicit Plan(const cublaslt::Library& used) : library(used) {}
  ~Plan() {
    if (desc != nullptr) library.desc_destroy(desc);
    for (const cublaslt::MatrixLayout layout : {a, b, c, d}) {
      if (layout != nullptr) library.layout_destroy(layout);
    }
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  const cublaslt::Library& library;
  cublaslt::MatmulDesc desc = nullptr;
  cublaslt::MatrixLayout a = nullptr, b = nullptr, c = nullptr, d = nullptr;
  cublaslt::Heuristic best{};
};

LibraryGemm::LibraryGemm(Runtime& runtime, MemoryPool& memory, Stream stream, const std::vector<std::string>& names)
    : runtime_(runtime), memory_(memory), stream_(stream), library_(names), timing_(stream) {
  check(library_.create(&handle_), "cublasLtCreate");
  workspace_ = memory_.allocate(kWorkspaceBytes, "workspace of cuBLASLt");
}

LibraryGemm::~LibraryGemm() {
  plans_.clear();
  if (handle_ != nullptr) library_.destroy(handle_);
  memory_.release(workspace_);
}

void LibraryGemm::check(cublaslt::Status status, const char* what) const {
  if (status == cublaslt::kSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + library_.status_name(status));
}

template <class T>
bool LibraryGemm::serves(const LinearArgs<T>& args) {
  const GemmWeight& w = args.weight;
  if (w.layout.format != WeightFormat::kPlain || args.experts.expert != nullptr || args.silu_mul) return false;
  if (w.n == 0 || w.k == 0 || args.rows < kLibraryRows) return false;
  // Of scales it knows a vector for each side, of 8-bit types.
  if ((args.x_scale != nullptr) != (w.column_scale != nullptr)) return false;
  if (args.x_scale != nullptr && !std::is_same_v<T, e4m3>) return false;
  const bool y_fits =
      args.y_float != nullptr ? has_aligned_rows(args.y_float, args.y_stride) : has_aligned_rows(args.y, args.y_stride);
  const bool residual_fits =
      args.residual == nullptr || (args.y_float == nullptr && has_aligned_rows(args.residual, args.residual_stride));
  return y_fits && residual_fits && has_aligned_rows(args.x, args.x_stride) &&
         has_aligned_rows(static_cast<const T*>(w.data), w.stride);
}

template <class T>
LibraryGemm::Shape LibraryGemm::shape_of(const LinearArgs<T>& args) {
  const GemmWeight& w = args.weight;
  const int y_type = args.y_float != nullptr ? cublaslt::kFloat : kTypeOf<Output<T>>;
  const int64_t residual = args.residual == nullptr ? -1 : args.residual_stride;
  return {kTypeOf<T>,
          y_type,
          w.n,
          w.k,
          w.stride,
          args.x_stride,
          args.y_stride,
          residual,
          args.bias != nullptr,
          args.x_scale != nullptr};
}

LibraryGemm::Plan& LibraryGemm::plan_of(const Shape& shape, int64_t rows) {
  std::unique_ptr<Plan>& kept = plans_[{shape, rows}];
  if (kept != nullptr) return *kept;
  auto plan = std::make_unique<Plan>(library_);
  const auto set = [&](cublaslt::DescAttribute attribute, auto value) {
    check(library_.desc_set(plan->desc, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  };
  check(library_.desc_create(&plan->desc, cublaslt::kCompute32F, cublaslt::kFloat), "cublasLtMatmulDescCreate");
  set(cublaslt::kTransposeA, cublaslt::kTranspose);
  set(cublaslt::kEpilogue, shape.has_bias ? cublaslt::kBiasEpilogue : cublaslt::kPlainEpilogue);
  if (shape.has_bias) set(cublaslt::kBiasType, cublaslt::kFloat);
  if (shape.has_scales) {
    set(cublaslt::kScaleModeA, cublaslt::kVectorScale);
    set(cublaslt::kScaleModeB, cublaslt::kVectorScale);
  }
  const auto layout = [&](cublaslt::MatrixLayout& made, int type, int64_t height, int64_t width, int64_t leading) {
    check(library_.layout_create(&made, static_cast<DataType>(type), static_cast<uint64_t>(height),
                                 static_cast<uint64_t>(width), leading),
          "cublasLtMatrixLayoutCreate");
  };
  layout(plan->a, shape.x_type, shape.k, shape.n, shape.w_stride);
  layout(plan->b, shape.x_type, shape.k, rows, shape.x_stride);
  layout(plan->c, shape.y_type, shape.n, rows, shape.residual_stride >= 0 ? shape.residual_stride : shape.y_stride);
  layout(plan->d, shape.y_type, shape.n, rows, shape.y_stride);

  cublaslt::Preference preference = nullptr;
  check(library_.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
  const std::unique_ptr<std::remove_pointer_t<cublaslt::Preference>, cublaslt::Status (*)(cublaslt::Preference)> owner(
      preference, library_.preference_destroy);
  const auto prefer = [&](cublaslt::PreferenceAttribute attribute, auto value) {
    check(library_.preference_set(preference, attribute, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(cublaslt::kMaxWorkspace, kWorkspaceBytes);
  for (const auto attribute :
       {cublaslt::kMinAlignmentA, cublaslt::kMinAlignmentB, cublaslt::kMinAlignmentC, cublaslt::kMinAlignmentD}) {
    prefer(attribute, kAlignment);
  }
  int found = 0;
  check(library_.heuristic(handle_, plan->desc, plan->a, plan->b, plan->c, plan->d, preference, 1, &plan->best, &found),
        "cublasLtMatmulAlgoGetHeuristic");
  if (found == 0) throw std::runtime_error("cublasLtMatmulAlgoGetHeuristic: no algorithm for this product");
  check(plan->best.state, "the algorithm of cublasLtMatmulAlgoGetHeuristic");
  kept = std::move(plan);
  return *kept;
}

template <class T>
void LibraryGemm::run(const LinearArgs<T>& args, Stream stream) {
  Plan& plan = plan_of(shape_of(args), args.rows);
  const auto point = [&](cublaslt::DescAttribute attribute, const void* to) {
    if (to == nullptr) return;
    check(library_.desc_set(plan.desc, attribute, &to, sizeof to), "cublasLtMatmulDescSetAttribute");
  };
  point(cublaslt::kBiasPointer, args.bias);
  point(cublaslt::kScalePointerA, args.weight.column_scale);
  point(cublaslt::kScalePointerB, args.x_scale);
  const float one = 1.0f, beta = args.residual != nullptr ? 1.0f : 0.0f;
  void* const y = args.y_float != nullptr ? static_cast<void*>(args.y_float) : args.y;
  const void* const c = args.residual != nullptr ? static_cast<const void*>(args.residual) : y;
  check(library_.matmul(handle_, plan.desc, &one, args.weight.data, plan.a, args.x, plan.b, &beta, c, plan.c, y, plan.d,
                        &plan.best.algorithm, workspace_, kWorkspaceBytes, static_cast<void*>(stream)),
        "cublasLtMatmul");
}

template <class T>
void LibraryGemm::choose(LinearArgs<T> args, Choice& choice) {
  using Out = Output<T>;
  std::minstd_rand generator(1);
  std::uniform_real_distribution<float> numbers(-1.0f, 1.0f);
  std::vector<T> x(static_cast<size_t>(args.rows * args.x_stride));
  for (T& value : x) value = from_float<T>(numbers(generator));
  std::vector<float> scales(static_cast<size_t>(args.rows));
  for (float& scale : scales) scale = numbers(generator);
  const int64_t y_bytes = args.rows * args.y_stride * (args.y_float != nullptr ? 4 : int64_t{sizeof(Out)});
  const int64_t residual_bytes = args.residual == nullptr ? 0 : args.rows * args.residual_stride * int64_t{sizeof(Out)};
  const Borrowed x_here(memory_, static_cast<int64_t>(x.size() * sizeof(T))), y_here(memory_, y_bytes),
      residual_here(memory_, residual_bytes), scales_here(memory_, args.rows * 4);
  runtime_.copy_in(x_here.as<T>(), x.data(), x.size() * sizeof(T), stream_);
  runtime_.copy_in(scales_here.as<float>(), scales.data(), scales.size() * sizeof(float), stream_);
  runtime_.fill(y_here.as<char>(), 0, static_cast<size_t>(y_bytes), stream_);
  args.x = x_here.as<T>();
  if (args.x_scale != nullptr) args.x_scale = scales_here.as<float>();
  if (args.residual != nullptr) {
    runtime_.fill(residual_here.as<char>(), 0x3c, static_cast<size_t>(residual_bytes), stream_);
    args.residual = residual_here.as<Out>();
  }
  if (args.y_float != nullptr) {
    args.y_float = y_here.as<float>();
  } else {
    args.y = y_here.as<Out>();
  }
  // The last rows of y, without what lies between them.
  const auto fetch = [&] {
    const int64_t first = std::max<int64_t>(0, args.rows - kComparedRows), count = (args.rows - first) * args.y_stride;
    std::vector<float> values(static_cast<size_t>(count));
    if (args.y_float != nullptr) {
      runtime_.copy_out(values.data(), args.y_float + first * args.y_stride, values.size() * 4, stream_);
      runtime_.synchronize(stream_);
    } else {
      std::vector<Out> narrow(values.size());
      runtime_.copy_out(narrow.data(), args.y + first * args.y_stride, narrow.size() * sizeof(Out), stream_);
      runtime_.synchronize(stream_);
      std::transform(narrow.begin(), narrow.end(), values.begin(), [](Out v) { return to_float(v); });
    }
    return values;
  };
  choice.our_us = 1000 * timing_.milliseconds([&] { linear<T>(args, stream_); });
  const std::vector<float> ours = fetch();
  runtime_.fill(y_here.as<char>(), 0, static_cast<size_t>(y_bytes), stream_);
  choice.their_us = 1000 * timing_.milliseconds([&] { run(args, stream_); });
  const std::vector<float> theirs = fetch();
  // Far more than another order of sums and one rounding make, far less than another layout would.
  float largest = 0, difference = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    largest = std::max(largest, std::abs(ours[i]));
    const float off = std::abs(ours[i] - theirs[i]);
    difference = off <= difference ? difference : off;  // NaN is a difference, and stays one
    if (std::isnan(off)) break;
  }
  if (!(difference <= largest / 64)) {
    choice.reason =
        "its result differs by " + std::to_string(difference) + " where numbers are up to " + std::to_string(largest);
    return;
  }
  choice.theirs = choice.their_us < choice.our_us;
}

template <class T>
void LibraryGemm::measure(const LinearArgs<T>& args, int64_t most_rows) {
  for (int64_t bucket = rows_bucket_of(1); bucket / 2 < most_rows; bucket *= 2) {
    LinearArgs<T> measured = args;
    measured.rows = std::min(bucket, most_rows);
    if (!serves(measured)) return;
    const auto [place, is_new] =
        choices_.try_emplace({shape_of(measured), bucket}, Choice{measured.rows, false, 0, 0, 0, ""});
    if (!is_new) continue;
    try {
      choose(measured, place->second);
    } catch (const std::exception& error) {  // of the library's, or no memory for the comparison
      place->second.theirs = false;
      place->second.reason = error.what();
    }
  }
}

template <class T>
bool LibraryGemm::launch(const LinearArgs<T>& args, Stream stream) {
  if (!serves(args)) return false;
  const auto found = choices_.find({shape_of(args), rows_bucket_of(args.rows)});
  if (found == choices_.end() || !found->second.theirs) return false;
  try {
    run(args, stream);
    ++found->second.launches;
    return true;
  } catch (const std::runtime_error& error) {
    found->second.theirs = false;
    found->second.reason = std::string(error.what()) + ", with " + std::to_string(args.rows) + " rows";
    return false;
  }
}

std::string LibraryGemm::report() const {
  std::string text = "\"path\":" + json_text(library_.file.path()) + ",\"version\":" + json_text(library_.version()) +
                     ",\"products\":[";
  bool first = true;
  for (const auto& [key, choice] : choices_) {
    const Shape& shape = key.first;
    text += std::string(first ? "" : ",") + "{\"rows\":" + std::to_string(choice.rows) +
            ",\"n\":" + std::to_string(shape.n) + ",\"k\":" + std::to_string(shape.k) +
            ",\"x\":" + json_text(name_of(shape.x_type)) + ",\"y\":" + json_text(name_of(shape.y_type)) +
            ",\"our_us\":" + rounded(choice.our_us) + ",\"their_us\":" + rounded(choice.their_us) +
            ",\"theirs\":" + (choice.theirs ? "true" : "false") + ",\"launches\":" + std::to_string(choice.launches) +
            ",\"reason\":" + json_text(choice.reason) + "}";
    first = false;
  }
  return text + "]";
}

template void LibraryGemm::measure(const LinearArgs<f16>&, int64_t);
template void LibraryGemm::measure(const LinearArgs<bf16>&, int64_t);
template void LibraryGemm::measure(const LinearArgs<e4m3>&, int64_t);
template bool LibraryGemm::launch(const LinearArgs<f16>&, Stream);
template bool LibraryGemm::launch(const LinearArgs<bf16>&, Stream);
template bool LibraryGemm::launch(const LinearArgs<e4m3>&, Stream);

}  // namespace pf::gpu
