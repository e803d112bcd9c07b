// Python classes of the weights room: MappedFile and the two header readers. All data is handed out read-only.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <system_error>

#include "weights/gguf.h"
#include "weights/mapped_file.h"
#include "weights/safetensors.h"
#include "weights/string_table.h"

namespace py = pybind11;
using namespace pf::weights;

namespace {

// Untrusted bytes as a Python string; FormatError when they are not UTF-8.
py::str to_str(std::string_view text, const std::string& owner) {
  PyObject* decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "strict");
  if (decoded == nullptr) {
    PyErr_Clear();
    throw FormatError(owner + " holds text that is not UTF-8");
  }
  return py::reinterpret_steal<py::str>(decoded);
}

py::object read_element(ByteReader& reader, const GgufEntry& entry) {
  const char* what = "a metadata value";
  switch (entry.type) {
    case GgufType::kUint8:
      return py::int_(reader.read<uint8_t>(what));
    case GgufType::kInt8:
      return py::int_(reader.read<int8_t>(what));
    case GgufType::kUint16:
      return py::int_(reader.read<uint16_t>(what));
    case GgufType::kInt16:
      return py::int_(reader.read<int16_t>(what));
    case GgufType::kUint32:
      return py::int_(reader.read<uint32_t>(what));
    case GgufType::kInt32:
      return py::int_(reader.read<int32_t>(what));
    case GgufType::kUint64:
      return py::int_(reader.read<uint64_t>(what));
    case GgufType::kInt64:
      return py::int_(reader.read<int64_t>(what));
    case GgufType::kFloat32:
      return py::float_(reader.read<float>(what));
    case GgufType::kFloat64:
      return py::float_(reader.read<double>(what));
    case GgufType::kBool:
      return py::bool_(reader.read<uint8_t>(what) != 0);
    case GgufType::kString:
      return to_str(read_gguf_string(reader), "metadata " + entry.key);
    case GgufType::kArray:
      break;  // the parser accepts no nested arrays
  }
  throw FormatError("metadata " + entry.key + " has an unsupported type");
}

py::object read_value(std::span<const uint8_t> file, const GgufEntry& entry) {
  ByteReader reader(file, entry.offset);
  if (!entry.is_array) return read_element(reader, entry);
  py::list values(entry.count);
  for (uint64_t i = 0; i < entry.count; ++i) values[i] = read_element(reader, entry);
  return values;
}

py::list tensor_rows(const std::vector<TensorInfo>& tensors) {
  py::list rows;
  for (const TensorInfo& tensor : tensors) {
    rows.append(py::make_tuple(to_str(tensor.name, "a tensor's name"), to_str(tensor.type, "a tensor's type"),
                               py::tuple(py::cast(tensor.shape)), tensor.offset, tensor.nbytes));
  }
  return rows;
}

// Keeps the mapping alive for as long as values are read from it.
struct GgufFile {
  std::shared_ptr<MappedFile> file;
  GgufHeader header;

  explicit GgufFile(std::shared_ptr<MappedFile> mapped)
      : file(std::move(mapped)), header(GgufHeader::parse(file->bytes())) {}

  const GgufEntry& entry(const std::string& key) const {
    for (const GgufEntry& entry : header.metadata) {
      if (entry.key == key) return entry;
    }
    throw py::key_error(key);
  }

  py::object value(const std::string& key) const { return read_value(file->bytes(), entry(key)); }

  // None for what is no array of strings.
  std::shared_ptr<StringTable> strings(const std::string& key) const {
    const GgufEntry& found = entry(key);
    if (!found.is_array || found.type != GgufType::kString) return nullptr;
    ByteReader reader(file->bytes(), found.offset);
    std::vector<std::string_view> strings(found.count);
    for (std::string_view& text : strings) text = read_gguf_string(reader);
    return std::make_shared<StringTable>(file, std::move(strings), "metadata " + key);
  }

  // None for what is no array of 32-bit integers.
  py::object unlike(const std::string& key, int64_t usual) const {
    const GgufEntry& found = entry(key);
    if (!found.is_array || (found.type != GgufType::kInt32 && found.type != GgufType::kUint32)) return py::none();
    ByteReader reader(file->bytes(), found.offset);
    py::dict others;
    for (uint64_t i = 0; i < found.count; ++i) {
      const int64_t value = found.type == GgufType::kInt32 ? int64_t{reader.read<int32_t>("a metadata value")}
                                                           : int64_t{reader.read<uint32_t>("a metadata value")};
      if (value != usual) others[py::int_(i)] = value;
    }
    return py::make_tuple(found.count, others);
  }

  py::list keys() const {
    py::list names;
    for (const GgufEntry& entry : header.metadata) names.append(to_str(entry.key, "a metadata key"));
    return names;
  }
};

// A table of its own copies.
std::shared_ptr<StringTable> table_of(const std::vector<std::string>& texts) {
  const auto owned = std::make_shared<std::vector<std::string>>(texts);
  return std::make_shared<StringTable>(owned, std::vector<std::string_view>(owned->begin(), owned->end()), "the list");
}

py::str text_at(const StringTable& table, py::ssize_t index) {
  if (index < 0 || static_cast<size_t>(index) >= table.size()) throw py::index_error("no such string");
  const std::string_view text = table[static_cast<size_t>(index)];
  return py::str(text.data(), text.size());
}

void translate_system_error(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const std::system_error& error) {
    errno = error.code().value();
    PyErr_SetFromErrno(PyExc_OSError);
  }
}

}  // namespace

void bind_weights(py::module_& m) {
  py::register_exception<FormatError>(m, "FormatError", PyExc_ValueError);
  py::register_local_exception_translator(translate_system_error);

  py::class_<MappedFile, std::shared_ptr<MappedFile>>(
      m, "MappedFile", py::buffer_protocol(),
      "A file mapped read-only; a buffer of its bytes. Unmapped when no one refers to it.")
      .def(py::init([](const py::bytes& path) { return MappedFile::open(path); }), py::arg("path"))
      .def("__len__", [](const MappedFile& file) { return file.bytes().size(); })
      .def_property_readonly("path", [](const MappedFile& file) { return py::bytes(file.path()); })
      .def("drop", &MappedFile::drop, py::arg("offset"), py::arg("nbytes"),
           "Gives the pages of a range back to the system; touching them again reads the file again.")
      .def_buffer([](MappedFile& file) {
        auto* data = const_cast<uint8_t*>(file.bytes().data());
        const auto size = static_cast<py::ssize_t>(file.bytes().size());
        return py::buffer_info(data, 1, py::format_descriptor<uint8_t>::format(), 1, {size}, {1}, /*readonly=*/true);
      });

  py::class_<StringTable, std::shared_ptr<StringTable>>(
      m, "StringTable", "The strings of an array, made into Python's when asked for. Immutable.")
      .def(py::init(&table_of), py::arg("texts"))
      .def("__len__", &StringTable::size)
      .def("__getitem__", text_at, py::arg("index"), "IndexError for an index that is negative or too large.")
      .def("find", &StringTable::find, py::arg("text"), "The first index of a string, or None.")
      .def_property_readonly("repeated", &StringTable::repeated, "The least index of a string that stands before it.");

  py::class_<GgufFile>(m, "GgufFile", "Header of a GGUF file; values of metadata are decoded when asked for.")
      .def(py::init<std::shared_ptr<MappedFile>>(), py::arg("file"))
      .def_property_readonly("version", [](const GgufFile& gguf) { return gguf.header.version; })
      .def("keys", &GgufFile::keys)
      .def("value", &GgufFile::value, py::arg("key"), "int, float, bool, str, or a list of one of those. Or KeyError.")
      .def("strings", &GgufFile::strings, py::arg("key"),
           "An array of strings, read in place; None if the value is none. Or KeyError.")
      .def(
          "unlike", &GgufFile::unlike, py::arg("key"), py::arg("usual"),
          "(length of an array of 32-bit integers, {index: value} of those that are not `usual`); None if the value is "
          "none. Or KeyError.")
      .def(
          "tensors", [](const GgufFile& gguf) { return tensor_rows(gguf.header.tensors); },
          "A list of (name, type, shape in torch order, offset in the file, nbytes).");

  m.def(
      "read_safetensors",
      [](const MappedFile& file) {
        const SafetensorsHeader header = SafetensorsHeader::parse(file.bytes());
        py::dict metadata;
        for (const auto& [key, value] : header.metadata) {
          metadata[to_str(key, "the metadata")] = to_str(value, "the metadata");
        }
        return py::make_tuple(metadata, tensor_rows(header.tensors));
      },
      py::arg("file"), "(metadata, tensors) of a safetensors file, in the form of GgufFile.tensors().");
}
