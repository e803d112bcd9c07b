#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/block_pool.h"

namespace py = pybind11;

namespace {

// A list or tuple of token ids. By hand, since pybind11's own conversion costs four times as much on long prompts.
std::vector<int32_t> tokens_from(const py::handle& sequence) {
  const auto fast =
      py::reinterpret_steal<py::object>(PySequence_Fast(sequence.ptr(), "token ids must be a list of int"));
  if (!fast) throw py::error_already_set();
  const Py_ssize_t size = PySequence_Fast_GET_SIZE(fast.ptr());
  PyObject** items = PySequence_Fast_ITEMS(fast.ptr());
  std::vector<int32_t> tokens(static_cast<size_t>(size));
  for (Py_ssize_t i = 0; i < size; ++i) {
    const long id = PyLong_AsLong(items[i]);
    if (id == -1 && PyErr_Occurred()) throw py::error_already_set();
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
      throw py::value_error("token id " + std::to_string(id) + " at index " + std::to_string(i) + " is out of range");
    }
    tokens[static_cast<size_t>(i)] = static_cast<int32_t>(id);
  }
  return tokens;
}

// Block lists of a step into the rows of an array. By hand, since pybind11 makes a vector of each list first.
void fill_block_tables(const py::buffer& out, const py::list& lists) {
  const py::buffer_info info = out.request(/*writable=*/true);
  if (info.ndim != 2 || !info.item_type_is_equivalent_to<int32_t>() || info.strides[1] != sizeof(int32_t)) {
    throw py::type_error("the array must be int32 with two dimensions, each row in one piece");
  }
  if (static_cast<py::ssize_t>(lists.size()) > info.shape[0]) throw py::value_error("more block lists than rows");
  for (py::ssize_t row = 0; row < static_cast<py::ssize_t>(lists.size()); ++row) {
    auto* const to = reinterpret_cast<int32_t*>(static_cast<char*>(info.ptr) + row * info.strides[0]);
    PyObject* const list = PyList_GET_ITEM(lists.ptr(), row);
    if (!PyList_Check(list)) throw py::type_error("block ids must be a list of int");
    const py::ssize_t size = PyList_GET_SIZE(list);
    if (size > info.shape[1]) throw py::value_error("a block list is longer than a row");
    for (py::ssize_t i = 0; i < size; ++i) {
      const long id = PyLong_AsLong(PyList_GET_ITEM(list, i));
      if (id == -1 && PyErr_Occurred()) throw py::error_already_set();
      to[i] = static_cast<int32_t>(id);  // the runner checks that there is such a block
    }
  }
}

}  // namespace

void bind_core(py::module_& m) {
  using pf::BlockPool;
  m.def("fill_block_tables", fill_block_tables, py::arg("out"), py::arg("lists"),
        "Writes lists of block ids into the rows of `out` [>= lists, >= longest] int32; what is beyond stays.");
  py::class_<BlockPool>(m, "BlockPool", "Owner of the blocks of a KV cache; see csrc/core/block_pool.h.")
      .def(py::init<int32_t, int32_t>(), py::arg("num_blocks"), py::arg("block_size"))
      .def("open", &BlockPool::open, py::arg("table"), py::arg("keys") = std::vector<int64_t>{})
      .def(
          "match",
          [](const BlockPool& pool, const py::handle& tokens, const std::vector<int64_t>& keys) {
            const BlockPool::Match match = pool.match(tokens_from(tokens), keys);
            return std::pair(match.num_tokens, match.num_free);
          },
          py::arg("tokens"), py::arg("keys") = std::vector<int64_t>{},
          "(tokens found in the cache, how many of their blocks are free).")
      .def(
          "adopt",
          [](BlockPool& pool, int64_t table, const py::handle& tokens) {
            return pool.adopt(table, tokens_from(tokens));
          },
          py::arg("table"), py::arg("tokens"))
      .def("allocate", &BlockPool::allocate, py::arg("table"), py::arg("num_tokens"))
      .def(
          "commit",
          [](BlockPool& pool, int64_t table, const py::handle& tokens) { pool.commit(table, tokens_from(tokens)); },
          py::arg("table"), py::arg("tokens"))
      .def("fork", &BlockPool::fork, py::arg("source"), py::arg("table"))
      .def("truncate", &BlockPool::truncate, py::arg("table"), py::arg("num_tokens"))
      .def("release", &BlockPool::release, py::arg("table"), py::arg("forget") = false)
      .def(
          "lease",
          [](BlockPool& pool, const std::vector<int32_t>& blocks, double expires) {
            return pool.lease(blocks, expires);
          },
          py::arg("blocks"), py::arg("expires"))
      .def("release_lease", &BlockPool::release_lease, py::arg("lease"), py::arg("epoch"))
      .def("expire_leases", &BlockPool::expire_leases, py::arg("now"))
      .def("next_epoch", &BlockPool::next_epoch)
      .def("begin", &BlockPool::begin)
      .def("commit_transaction", &BlockPool::commit_transaction)
      .def("rollback", &BlockPool::rollback)
      .def("take_copies", &BlockPool::take_copies)
      .def("clear_index", &BlockPool::clear_index)
      .def("contains", &BlockPool::contains, py::arg("table"))
      .def("pending", &BlockPool::pending, py::arg("block"))
      .def(
          "blocks",
          [](const BlockPool& pool, int64_t table, size_t first) {
            const std::vector<int32_t>& ids = pool.blocks(table);
            return std::vector<int32_t>(ids.begin() + static_cast<std::ptrdiff_t>(std::min(first, ids.size())),
                                        ids.end());
          },
          py::arg("table"), py::arg("first") = 0, "Block ids of the table from the `first` on, a new list.")
      .def("num_committed", &BlockPool::num_committed, py::arg("table"))
      .def("num_unshared", &BlockPool::num_unshared, py::arg("table"))
      .def("ref", &BlockPool::ref, py::arg("block"))
      .def("indexed", &BlockPool::indexed, py::arg("block"))
      .def("check_invariants", &BlockPool::check_invariants, "Empty when all invariants hold, else what is wrong.")
      .def_property_readonly("num_blocks", &BlockPool::num_blocks)
      .def_property_readonly("block_size", &BlockPool::block_size)
      .def_property_readonly("num_free", &BlockPool::num_free)
      .def_property_readonly("num_written", &BlockPool::num_written)
      .def_property_readonly("num_kept", &BlockPool::num_kept)
      .def_property_readonly("num_indexed", &BlockPool::num_indexed)
      .def_property_readonly("num_tables", &BlockPool::num_tables)
      .def_property_readonly("num_leases", &BlockPool::num_leases)
      .def_property_readonly("num_dropped", &BlockPool::num_dropped)
      .def_property_readonly("epoch", &BlockPool::epoch)
      .def_property_readonly("in_transaction", &BlockPool::in_transaction);
}
