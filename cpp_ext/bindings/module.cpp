// The Python module `shortlist._core`: only registration, no logic.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/interpreter.hpp"
#include "bindings/register_columns.hpp"
#include "bindings/register_engine.hpp"
#include "bindings/register_index.hpp"
#include "bindings/register_sessions.hpp"
#include "engine/errors.hpp"
#include "ort_op/onnxruntime_types.hpp"
#include "shortlist/background.hpp"
#include "shortlist/file_error.hpp"
#include "shortlist/file_hash.hpp"
#include "shortlist/limits.hpp"
#include "shortlist/nibbles.hpp"
#include "shortlist/shortlist.h"
#include "shortlist/simd.hpp"
#include "shortlist/thread_pool.hpp"

namespace py = pybind11;

namespace {

void raise_as(const char* name, const std::exception& error) {
  const py::object type = py::module_::import("shortlist.errors").attr(name);
  PyErr_SetString(type.ptr(), error.what());
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "Compiled core of shortlist.";
  module.attr("__version__") = SHORTLIST_VERSION;
  module.attr("compiler") = SHORTLIST_COMPILER;
  module.attr("build_type") = SHORTLIST_BUILD_TYPE;
  module.attr("c_abi_version") = shortlist_abi_version();
  module.attr("onnxruntime_api_version") = shortlist::ort::kApiVersion;
  module.def("simd_level", &shortlist::simd_level);
  module.def("simd_levels", &shortlist::simd_levels);
  module.def("set_simd_level", &shortlist::set_simd_level, py::arg("level"));
  module.def("min_code_bytes_for_nibbles", &shortlist::min_code_bytes_for_nibbles);
  module.def("set_min_code_bytes_for_nibbles", &shortlist::set_min_code_bytes_for_nibbles,
             py::arg("n_bytes"));
  module.attr("max_threads") = shortlist::kMaxThreads;
  module.attr("max_batch") = shortlist::kMaxBatch;
  module.attr("max_empty_places") = shortlist::kMaxEmptyPlaces;
  module.def("num_threads", &shortlist::num_threads);
  module.def("set_num_threads", &shortlist::set_num_threads, py::arg("n_threads"));
  module.def("give_back_memory", &shortlist::give_back_memory,
             py::call_guard<shortlist::bindings::Released>());
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const shortlist::FileError& error) {
      raise_as("BundleError", error);
    } catch (const shortlist::engine::RuntimeMissing& error) {
      raise_as("ShortlistError", error);
    } catch (const shortlist::engine::DeviceMissing& error) {
      raise_as("ShortlistError", error);
    } catch (const shortlist::engine::ThreadsMissing& error) {
      raise_as("ShortlistError", error);
    }
  });
  shortlist::bindings::register_columns(module);
  shortlist::bindings::register_index(module);
  shortlist::bindings::register_engine(module);
  shortlist::bindings::register_sessions(module);
}
