// Python class of the json room: JsonMachine, with the interface of pageform.structured.json_machine.JsonMachine except
// that a fault is a property and not an exception.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "json/json_machine.h"

namespace py = pybind11;
using namespace pf::json;

namespace {

Then then_of(const std::string& name) {
  if (name == "nothing") return Then::kNothing;
  if (name == "anything") return Then::kAnything;
  if (name == "values") return Then::kValues;
  throw py::value_error("then='" + name + "': must be 'nothing', 'anything' or 'values'");
}

const char* name_of(FaultKind kind) {
  switch (kind) {
    case FaultKind::kUnexpected:
      return "unexpected";
    case FaultKind::kTooDeep:
      return "too deep";
    case FaultKind::kTooEarly:
      return "too early";
  }
  return "";
}

// The events as tuples (kind, start, end, text).
py::list told(const JsonMachine& machine) {
  py::list list(machine.events().size());
  size_t at = 0;
  for (const Event& event : machine.events()) {
    const std::string_view text = machine.text(event);
    list[at++] =
        py::make_tuple(static_cast<int>(event.kind), event.start, event.end, py::str(text.data(), text.size()));
  }
  return list;
}

}  // namespace

void bind_json(py::module_& m) {
  py::class_<JsonMachine>(m, "JsonMachine", "Events of JSON text that arrives in pieces; see csrc/json/json_machine.h.")
      .def(py::init([](const std::string& then, bool strict, size_t max_depth, uint64_t offset) {
             return JsonMachine({then_of(then), strict, max_depth, offset});
           }),
           py::arg("then") = "nothing", py::arg("strict") = false, py::arg("max_depth") = kMaxDepth,
           py::arg("offset") = 0)
      .def(
          "feed",
          [](JsonMachine& machine, const py::buffer& data) {
            const py::buffer_info bytes = data.request();
            if (bytes.ndim != 1 || bytes.itemsize != 1 || bytes.strides[0] != 1) {
              throw py::value_error("data must be bytes, one after another");
            }
            machine.feed({static_cast<const char*>(bytes.ptr), static_cast<size_t>(bytes.size)});
            return told(machine);
          },
          py::arg("data"), "The events (kind, start, end, text) of the next bytes, up to a fault.")
      .def("finish",
           [](JsonMachine& machine) {
             machine.finish();
             return told(machine);
           })
      .def("copy", [](const JsonMachine& machine) { return JsonMachine(machine); })
      .def_property_readonly(
          "fault",
          [](const JsonMachine& machine) -> py::object {
            const auto& fault = machine.fault();
            if (!fault) return py::none();
            return py::make_tuple(name_of(fault->kind), fault->position, fault->message);
          },
          "(what, bytes before it, message), or None.")
      .def_property_readonly("complete", &JsonMachine::complete)
      .def_property_readonly("depth", &JsonMachine::depth)
      .def_property_readonly("offset", &JsonMachine::offset)
      .def_property_readonly("tolerated", &JsonMachine::tolerated);
}
