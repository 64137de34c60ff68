#pragma once

#include <pybind11/pybind11.h>

namespace shortlist::bindings {

void register_engine(pybind11::module_& module);

}  // namespace shortlist::bindings
