// Python classes of the runtime: Device, Weight, KvCache, MaskGate, Runner.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <map>
#include <memory>
#include <optional>

#include "buffers.h"
#include "crossings.h"
#include "runtime/device.h"
#include "runtime/errors.h"
#include "runtime/mask_gate.h"
#include "runtime/op_table.h"
#include "runtime/packed_file.h"
#include "runtime/runner.h"
#include "step_arrays.h"

namespace py = pybind11;

namespace {

using Floats = py::array_t<float, py::array::c_style>;

// --- programs --------------------------------------------------------------------------------------------------------

using ViewTuple = std::tuple<int32_t, int64_t, int64_t>;
using OpTuple = std::tuple<std::string, std::vector<ViewTuple>, std::vector<ViewTuple>, int32_t, int32_t,
                           std::vector<int64_t>, std::vector<double>>;

std::vector<pf::View> views_of(const std::vector<ViewTuple>& tuples) {
  std::vector<pf::View> views;
  for (const auto& [buffer, col, cols] : tuples) views.push_back({buffer, col, cols});
  return views;
}

std::map<std::string, pf::View> externals_of(const py::object& description) {
  std::map<std::string, pf::View> externals;
  for (const auto& [name, view] : description.cast<std::map<std::string, ViewTuple>>()) {
    externals[name] = views_of({view})[0];
  }
  return externals;
}

// The inverse of pageform.runtime.program.Program.describe().
pf::Program program_of(const py::dict& description) {
  pf::Program program;
  for (const auto& [rows, cols] : description["buffers"].cast<std::vector<std::pair<std::string, int64_t>>>()) {
    program.buffers.push_back({pf::rows_from_letter(rows), cols});
  }
  for (const auto& [buffer, dtype] : description["dtypes"].cast<std::map<size_t, std::string>>()) {
    if (buffer >= program.buffers.size()) pf::refuse("a type is given for buffer ", buffer, ", which there is none of");
    program.buffers[buffer].dtype = pf::activation_type_from_name(dtype);
  }
  for (const auto& [name, inputs, outputs, weight, vector, ints, floats] :
       description["ops"].cast<std::vector<OpTuple>>()) {
    program.ops.push_back({name, views_of(inputs), views_of(outputs), weight, vector, ints, floats});
  }
  program.inputs = externals_of(description["inputs"]);
  program.outputs = externals_of(description["outputs"]);
  return program;
}

// {name: (inputs, outputs, ints, floats, weight, vector)}, comparable with pageform.ops.table.OPS.
py::dict op_table() {
  const auto need = [](pf::Need n) { return n == pf::Need::yes ? "yes" : n == pf::Need::no ? "no" : "optional"; };
  py::dict table;
  for (const pf::OpSignature& op : pf::op_signatures()) {
    table[op.name.c_str()] = py::make_tuple(op.inputs, op.outputs, py::tuple(py::cast(op.ints)),
                                            py::tuple(py::cast(op.floats)), need(op.weight), need(op.vector));
  }
  return table;
}

// --- weights and caches ----------------------------------------------------------------------------------------------

// (buffer, offset, nbytes, rows, cols, format name)
using PartTuple = std::tuple<py::buffer, int64_t, int64_t, int64_t, int64_t, std::string>;

std::shared_ptr<pf::Weight> pack(const std::shared_ptr<pf::Device>& device, const std::vector<PartTuple>& tuples) {
  struct BufferView {  // pins the bytes of any Python buffer
    explicit BufferView(const py::buffer& buffer) {
      if (PyObject_GetBuffer(buffer.ptr(), &view, PyBUF_SIMPLE) != 0) throw py::error_already_set();
    }
    ~BufferView() { PyBuffer_Release(&view); }
    BufferView(const BufferView&) = delete;
    BufferView& operator=(const BufferView&) = delete;
    Py_buffer view;
  };
  std::vector<std::unique_ptr<BufferView>> pinned;
  std::vector<PfWeightPart> parts;
  for (const auto& [buffer, offset, nbytes, rows, cols, format] : tuples) {
    pinned.push_back(std::make_unique<BufferView>(buffer));
    const Py_buffer& view = pinned.back()->view;
    if (offset < 0 || nbytes < 0 || offset > view.len - nbytes) {
      pf::refuse("part ", parts.size(), " is ", nbytes, " bytes from byte ", offset, " of a buffer of ", view.len);
    }
    parts.push_back({static_cast<const char*>(view.buf) + offset, static_cast<size_t>(nbytes), rows, cols,
                     pf::format_from_name(format)});
  }
  const py::gil_scoped_release release;
  return std::make_shared<pf::Weight>(device, parts);
}

// (rows, cols, format name)
using SavedPart = std::tuple<int64_t, int64_t, std::string>;
// (parts, offset in the file, sum)
using SavedTuple = std::tuple<std::vector<SavedPart>, uint64_t, uint64_t>;

std::vector<std::shared_ptr<pf::Weight>> restore(const std::shared_ptr<pf::Device>& device, int file,
                                                 const std::vector<SavedTuple>& tuples) {
  std::vector<pf::SavedWeight> saved;
  for (const auto& [parts, offset, sum] : tuples) {
    pf::SavedWeight weight{{}, offset, sum};
    for (const auto& [rows, cols, name] : parts) {
      const PfFormat format = pf::format_from_name(name);
      weight.parts.push_back({nullptr, pf::row_bytes(format, cols) * static_cast<size_t>(rows), rows, cols, format});
    }
    saved.push_back(std::move(weight));
  }
  const py::gil_scoped_release release;
  return pf::restore_weights(device, file, saved);
}

Floats dequantize(const pf::Weight& weight, int64_t row, std::optional<int64_t> rows) {
  const int64_t count = rows.value_or(weight.shape().rows - row);
  weight.check_rows(row, count);
  Floats values({count, weight.shape().cols});
  float* out = values.mutable_data();
  const py::gil_scoped_release release;
  weight.dequantize(row, count, out);
  return values;
}

PfKvShape kv_shape(int32_t num_layers, int32_t kv_heads, int32_t head_dim, int32_t block_size, int32_t num_blocks,
                   const std::string& dtype) {
  static const std::map<std::string, PfDType> types = {{"f32", PF_F32}, {"f16", PF_F16}, {"bf16", PF_BF16},
                                                       {"i16", PF_I16}, {"i8", PF_I8},   {"e4m3", PF_E4M3}};
  const auto type = types.find(dtype);
  if (type == types.end()) pf::refuse("a KV cache holds f32, f16, bf16, i16, i8 or e4m3, not ", dtype);
  const PfKvShape shape{num_layers, kv_heads, head_dim, block_size, num_blocks, type->second};
  pf::check_kv_shape(shape);
  return shape;
}

// --- runner ----------------------------------------------------------------------------------------------------------

std::unique_ptr<pf::Runner> make_runner(std::shared_ptr<pf::Device> device, const py::dict& program,
                                        std::vector<std::shared_ptr<pf::Weight>> weights,
                                        const std::vector<py::object>& vectors, std::shared_ptr<pf::KvCache> kv,
                                        int64_t max_tokens, int64_t max_seqs, int64_t max_rows, bool lower) {
  std::vector<std::vector<float>> values;
  for (const py::object& vector : vectors) {
    const HeldBuffer held(vector, pf::message("vector ", values.size()));
    const float* data = held.data<float>(1);
    values.emplace_back(data, data + held.size());
  }
  const pf::RunnerOptions options{{max_tokens, max_seqs, max_rows}, lower};
  return std::make_unique<pf::Runner>(std::move(device), program_of(program), std::move(weights), std::move(values),
                                      std::move(kv), options);
}

py::dict run(pf::Runner& runner, const py::object& inputs, const std::shared_ptr<pf::MaskGate>& gate) {
  count_crossing();
  StepArrays arrays(inputs, runner.limits());
  PfStep step = arrays.step();
  if (gate != nullptr) {
    step.wait_masks = pf::MaskGate::wait_callback;
    step.masks_ready = pf::MaskGate::ready_callback;
    step.wait_ctx = gate.get();
  }
  const auto start = std::chrono::steady_clock::now();
  std::chrono::duration<double> taken{};
  try {
    const py::gil_scoped_release release;
    runner.run(step);
    taken = std::chrono::steady_clock::now() - start;
  } catch (const pf::BackendError&) {
    if (gate == nullptr || gate->failure().empty()) throw;
    throw pf::BackendError("the grammar masks of the step failed: " + gate->failure());
  }
  py::dict sampled = arrays.take_sampled();
  sampled["seconds"] = taken.count();
  return sampled;
}

void feed(pf::Runner& runner, const std::string& name, const Floats& values) {
  if (values.ndim() != 2) pf::refuse("input \"", name, "\" must be fed 2 dimensions, not ", values.ndim());
  runner.feed(name, {values.shape(0), values.shape(1), {values.data(), values.data() + values.size()}});
}

Floats fetch(const pf::Runner& runner, const std::string& name) {
  const pf::Matrix matrix = runner.fetch(name);
  Floats array({matrix.rows, matrix.cols});
  std::copy(matrix.values.begin(), matrix.values.end(), array.mutable_data());
  return array;
}

py::list op_names_of(const pf::Program& program) {
  py::list names;
  for (const pf::Op& op : program.ops) names.append(op.name);
  return names;
}

void translate_backend_error(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const pf::BackendError& error) {
    const py::object type = py::module_::import("pageform.core.errors").attr("BackendError");
    py::set_error(type, error.what());
  }
}

}  // namespace

void bind_runtime(py::module_& m) {
  bind_buffers(m);
  py::register_exception_translator(translate_backend_error);
  m.def(
      "crossings", [] { return crossings().load(); },
      "Calls from Python into native code that steps have made so far.");
  m.def("op_table", op_table, "Signatures of the ops: {name: (inputs, outputs, ints, floats, weight, vector)}.");

  py::class_<pf::Weight, std::shared_ptr<pf::Weight>>(m, "Weight", "A matrix in the backend's own layout.")
      .def_property_readonly("bytes", &pf::Weight::bytes)
      .def_property_readonly("shape",
                             [](const pf::Weight& w) { return py::make_tuple(w.shape().rows, w.shape().cols); })
      .def("save", pf::save_weight, py::arg("file"), py::arg("offset"), py::call_guard<py::gil_scoped_release>(),
           "Writes the packed bytes to a file descriptor; their checksum. OSError; BackendError without a layout.")
      .def("dequantize", dequantize, py::arg("row") = 0, py::arg("rows") = py::none(),
           "Rows [row, row + rows) as float32; rows=None means all from `row` on.");

  py::class_<pf::KvCache, std::shared_ptr<pf::KvCache>>(m, "KvCache", "Paged keys and values of all layers.")
      .def_property_readonly("bytes", &pf::KvCache::bytes, "Address space; a block takes memory once it is written.")
      .def_property_readonly("num_blocks", [](const pf::KvCache& kv) { return kv.shape().num_blocks; })
      .def_property_readonly("block_size", [](const pf::KvCache& kv) { return kv.shape().block_size; });

  py::class_<pf::Device, std::shared_ptr<pf::Device>>(m, "Device", "Threads and kernels of one backend.")
      .def(py::init([](const std::string& backend_path, int threads, const std::string& isa,
                       const std::vector<int>& cores, int index, const std::string& activations) {
             return std::make_shared<pf::Device>(backend_path, threads, isa, cores, index,
                                                 pf::activation_type_from_name(activations));
           }),
           py::arg("backend_path"), py::arg("threads") = 0, py::arg("isa") = "auto",
           py::arg("cores") = std::vector<int>(), py::arg("index") = 0, py::arg("activations") = "f32")
      .def_property_readonly("name", [](const pf::Device& d) { return d.backend().name; })
      .def_property_readonly("threads", [](const pf::Device& d) { return d.backend().device_threads(d.handle()); })
      .def_property_readonly("describe", [](const pf::Device& d) { return d.backend().device_describe(d.handle()); })
      .def_property_readonly(
          "memory",
          [](const pf::Device& d) -> py::object {
            const auto memory = d.memory();
            return memory ? py::object(py::make_tuple(memory->free, memory->total)) : py::object(py::none());
          },
          "Bytes of the device's own memory, (free, total); None for a device that works in the host's.")
      .def(
          "use_library", &pf::Device::use_library, py::arg("name"), py::arg("paths"),
          py::call_guard<py::gil_scoped_release>(),
          "Lets the device use its vendor's library, the first of these files that loads, where that is faster. Before "
          "its first program. BackendError for a library that it does not know.")
      .def("libraries", &pf::Device::libraries, py::call_guard<py::gil_scoped_release>(),
           "JSON: for each library that was allowed, what was found and does what, or why it is refused.")
      .def_property_readonly("op_names",
                             [](const pf::Device& d) {
                               py::list names;
                               for (const pf::OpSignature& op : pf::op_signatures()) {
                                 if (d.has_op(op.name)) names.append(op.name);
                               }
                               return names;
                             })
      .def("has_op", &pf::Device::has_op, py::arg("name"))
      .def("pack", pack, py::arg("parts"),
           "Packs parts (buffer, offset, nbytes, rows, cols, format), concatenated along rows, into a Weight.")
      .def_property_readonly(
          "packed_layout", [](const pf::Device& d) { return d.backend().packed_layout; },
          "Names the layout of packed weights; None for a backend that can't save them.")
      .def("restore", restore, py::arg("file"), py::arg("saved"),
           "The weights that `Weight.save` wrote to a file: `saved` has ([(rows, cols, format)], offset, checksum) of "
           "each. ValueError for bytes that are not those; OSError.")
      .def(
          "kv_cache",
          [](std::shared_ptr<pf::Device> device, int32_t num_layers, int32_t kv_heads, int32_t head_dim,
             int32_t block_size, int32_t num_blocks, const std::string& dtype) {
            return std::make_shared<pf::KvCache>(
                std::move(device), kv_shape(num_layers, kv_heads, head_dim, block_size, num_blocks, dtype));
          },
          py::arg("num_layers"), py::arg("kv_heads"), py::arg("head_dim"), py::arg("block_size"), py::arg("num_blocks"),
          py::arg("dtype"))
      .def(
          "kv_block_bytes",
          [](const pf::Device& device, int32_t num_layers, int32_t kv_heads, int32_t head_dim, int32_t block_size,
             const std::string& dtype) {
            const PfKvShape shape = kv_shape(num_layers, kv_heads, head_dim, block_size, 1, dtype);
            return device.backend().kv_block_bytes(&shape);
          },
          py::arg("num_layers"), py::arg("kv_heads"), py::arg("head_dim"), py::arg("block_size"), py::arg("dtype"),
          "Bytes of one block over all layers.");

  py::class_<pf::MaskGate, std::shared_ptr<pf::MaskGate>>(m, "MaskGate", "What a step waits at before it reads masks.")
      .def(py::init<>())
      .def("open", &pf::MaskGate::open, "The masks are complete.")
      .def("fail", &pf::MaskGate::fail, py::arg("message"),
           "The masks could not be filled: the step raises BackendError.")
      .def("wait", &pf::MaskGate::wait, py::call_guard<py::gil_scoped_release>(), "Blocks; False after fail().")
      .def_property_readonly("failure", &pf::MaskGate::failure)
      .def_property_readonly("waited", &pf::MaskGate::waited, "Seconds that all waits took.");

  py::class_<pf::Runner>(m, "Runner", "Runs the steps of one program on one device.")
      .def(py::init(&make_runner), py::arg("device"), py::arg("program"), py::arg("weights"), py::arg("vectors"),
           py::arg("kv").none(true), py::kw_only(), py::arg("max_tokens"), py::arg("max_seqs"), py::arg("max_rows"),
           py::arg("lower") = true)
      .def("run", run, py::arg("inputs"), py::arg("gate").none(true) = py::none(),
           "Runs one step without the GIL; `inputs` is a StepInputs. Returns the arrays of a Sampled by name.")
      .def("feed", feed, py::arg("name"), py::arg("values"), "Sets an external input for the following runs.")
      .def("fetch", fetch, py::arg("name"), "An external output of the last run.")
      .def_property_readonly(
          "op_names", [](const pf::Runner& r) { return op_names_of(r.program()); },
          "Names of the ops as they run, after lowering.")
      .def_property_readonly("arena_bytes", [](const pf::Runner& r) { return r.arena().bytes; })
      .def("describe_arena", [](const pf::Runner& r) { return r.arena().describe(); });
}
