#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

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

}  // namespace

void bind_core(py::module_& m) {
  using pf::BlockPool;
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
      .def(
          "blocks", [](const BlockPool& pool, int64_t table) { return pool.blocks(table); }, py::arg("table"),
          "Block ids of the table, a new list.")
      .def("num_committed", &BlockPool::num_committed, py::arg("table"))
      .def("num_unshared", &BlockPool::num_unshared, py::arg("table"))
      .def("ref", &BlockPool::ref, py::arg("block"))
      .def("indexed", &BlockPool::indexed, py::arg("block"))
      .def("check_invariants", &BlockPool::check_invariants, "Empty when all invariants hold, else what is wrong.")
      .def_property_readonly("num_blocks", &BlockPool::num_blocks)
      .def_property_readonly("block_size", &BlockPool::block_size)
      .def_property_readonly("num_free", &BlockPool::num_free)
      .def_property_readonly("num_indexed", &BlockPool::num_indexed)
      .def_property_readonly("num_tables", &BlockPool::num_tables)
      .def_property_readonly("num_leases", &BlockPool::num_leases)
      .def_property_readonly("num_dropped", &BlockPool::num_dropped)
      .def_property_readonly("epoch", &BlockPool::epoch)
      .def_property_readonly("in_transaction", &BlockPool::in_transaction);
}
