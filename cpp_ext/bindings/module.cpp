// The Python module `shortlist._core`: only registration, no logic.
#include <pybind11/pybind11.h>

PYBIND11_MODULE(_core, module) {
  module.doc() = "Compiled core of shortlist.";
  module.attr("__version__") = SHORTLIST_VERSION;
}
