// Arrays of numbers between Python and native code by the buffer protocol: NumPy's, the standard library's,
// memoryviews. NumPy itself is never imported for them: that takes as long as loading a small model.
#pragma once
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

// Holds a Python object's C-contiguous buffer, which stays where it is meanwhile.
class HeldBuffer {
 public:
  // std::invalid_argument, beginning with `name`, for an object without such a buffer.
  HeldBuffer(const pybind11::handle& object, const std::string& name);
  ~HeldBuffer() { PyBuffer_Release(&view_); }  // needs the GIL
  HeldBuffer(const HeldBuffer&) = delete;
  HeldBuffer& operator=(const HeldBuffer&) = delete;

  int dims() const { return view_.ndim; }
  int64_t shape(int dim) const { return view_.shape[dim]; }
  int64_t size() const { return view_.len / view_.itemsize; }

  // The elements. std::invalid_argument when they are no T, or the dimensions are not `dims`.
  template <class T>
  const T* data(int dims) const {
    static_assert(std::is_arithmetic_v<T>);
    check(std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u', sizeof(T), dims);
    return static_cast<const T*>(view_.buf);
  }

 private:
  void check(char kind, size_t bytes, int dims) const;

  std::string name_;
  Py_buffer view_;
};

// Numbers that native code made: what a memoryview for Python looks into.
struct OwnedNumbers {
  std::unique_ptr<uint8_t[]> bytes;
  std::string format;
  pybind11::ssize_t item_bytes;
  std::vector<pybind11::ssize_t> shape;
};

// A memoryview of numbers that are all `fill`, and where they lie.
pybind11::object view_of(std::shared_ptr<OwnedNumbers> numbers);
template <class T>
pybind11::object new_view(const std::vector<pybind11::ssize_t>& shape, T fill, T** data) {
  size_t count = 1;
  for (const pybind11::ssize_t size : shape) count *= static_cast<size_t>(size);
  auto numbers = std::make_shared<OwnedNumbers>();
  numbers->bytes.reset(new uint8_t[std::max<size_t>(count, 1) * sizeof(T)]);
  numbers->format = pybind11::format_descriptor<T>::format();
  numbers->item_bytes = sizeof(T);
  numbers->shape = shape;
  *data = reinterpret_cast<T*>(numbers->bytes.get());
  std::fill_n(*data, count, fill);
  return view_of(std::move(numbers));
}

void bind_buffers(pybind11::module_& m);
