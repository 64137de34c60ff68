// What a loaded bundle says about itself and its users, for Python.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string_view>

#include "engine/loaded_bundle.hpp"

namespace shortlist::bindings {

// The columns that the graph takes, and their types.
pybind11::dict inputs(const engine::LoadedBundle& bundle);
// What is stored of a user: item ids, kinds and times of events, oldest first; None if unknown.
// Kinds and times are empty lists where the bundle stores none.
pybind11::object stored_user(const engine::LoadedBundle& bundle, std::int64_t id);
pybind11::object stored_user(const engine::LoadedBundle& bundle, std::string_view id);
// Of each open graph: its name in messages, provider, nodes by provider.
pybind11::list sessions(const engine::LoadedBundle& bundle);
// How many requests shared how many runs; None where every call goes alone.
pybind11::object batching(const engine::LoadedBundle& bundle);
// Calls that have no answer yet, of those that may share runs.
std::size_t n_inside(const engine::LoadedBundle& bundle);
// Which way finds the items of batches of each size, and what was measured; None = the index.
pybind11::object graph_search(const engine::LoadedBundle& bundle);
// Runs of the portable graph.
std::uint64_t n_graph_runs(const engine::LoadedBundle& bundle);
// Sizes of batches whose shapes do not change; None where there are none.
pybind11::object fixed_batches(const engine::LoadedBundle& bundle);

}  // namespace shortlist::bindings
