#include "buffers.h"

#include <cstring>

#include "runtime/errors.h"

namespace py = pybind11;

namespace {

// The kind of a format of one native number: signed, unsigned, floating, or something else.
char kind_of(const char* format) {
  if (format == nullptr) return 'u';  // bytes
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  if (*format == '\0' || format[1] != '\0') return '?';
  if (std::strchr("bhilqn", *format) != nullptr) return 'i';
  if (std::strchr("BHILQN", *format) != nullptr) return 'u';
  return std::strchr("efd", *format) != nullptr ? 'f' : '?';
}

std::string dtype_name(char kind, size_t bytes) {
  const char* name = kind == 'i' ? "int" : kind == 'u' ? "uint" : kind == 'f' ? "float" : "no number of ";
  return name + std::to_string(8 * bytes) + (kind == '?' ? " bits" : "");
}

}  // namespace

HeldBuffer::HeldBuffer(const py::handle& object, const std::string& name) : name_(name) {
  if (PyObject_CheckBuffer(object.ptr()) == 0) pf::refuse(name_, " must be an array");
  if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0) {
    PyErr_Clear();
    pf::refuse(name_, " must be C-contiguous");
  }
}

void HeldBuffer::check(char kind, size_t bytes, int dims) const {
  const char found = kind_of(view_.format);
  if (found != kind || static_cast<size_t>(view_.itemsize) != bytes) {
    pf::refuse(name_, " must have dtype ", dtype_name(kind, bytes), ", has ",
               dtype_name(found, static_cast<size_t>(view_.itemsize)));
  }
  if (view_.ndim != dims) pf::refuse(name_, " must have ", dims, " dimensions, has ", view_.ndim);
}

py::object view_of(std::shared_ptr<OwnedNumbers> numbers) {
  const py::object owner = py::cast(std::move(numbers));
  PyObject* view = PyMemoryView_FromObject(owner.ptr());
  if (view == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(view);
}

void bind_buffers(py::module_& m) {
  py::class_<OwnedNumbers, std::shared_ptr<OwnedNumbers>>(m, "_OwnedNumbers", py::buffer_protocol())
      .def_buffer([](OwnedNumbers& numbers) {
        std::vector<py::ssize_t> strides(numbers.shape.size());
        py::ssize_t stride = numbers.item_bytes;
        for (size_t i = strides.size(); i-- > 0; stride *= numbers.shape[i]) strides[i] = stride;
        return py::buffer_info(numbers.bytes.get(), numbers.item_bytes, numbers.format,
                               static_cast<py::ssize_t>(numbers.shape.size()), numbers.shape, std::move(strides));
      });
}
