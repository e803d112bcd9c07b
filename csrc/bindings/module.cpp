// The extension module pageform._native: the only code that knows Python. One file a room registers its classes.
#include <pybind11/pybind11.h>

namespace py = pybind11;

void bind_core(py::module_& m);
void bind_json(py::module_& m);
void bind_runtime(py::module_& m);
void bind_weights(py::module_& m);

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native core of pageform: block pool, file readers, programs and backends.";
  bind_core(m);
  bind_json(m);
  bind_weights(m);
  bind_runtime(m);
}
