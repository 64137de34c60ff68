#pragma once

#include <pybind11/pybind11.h>

namespace shortlist::bindings {

void register_sessions(pybind11::module_& module);

}  // namespace shortlist::bindings
