// Limits that several layers share; Python reads them from the extension.
#pragma once

#include <cstddef>

namespace shortlist {

// Requests in one run of a bundle's graph: larger calls are cut, so that memory beside requests and
// answers stays the same.
constexpr std::size_t kMaxBatch = 1024;
// Values of one column in such a run, 8 MiB of numbers: a column is as wide as its longest list.
constexpr std::size_t kMaxValues = std::size_t{1} << 20;
// Values of one list, longer than any history: a mistake would fill the memory.
constexpr std::size_t kMaxWidth = std::size_t{1} << 24;
// Places of an answer that may be empty by far: beyond this, a mistake would fill the memory.
constexpr std::size_t kMaxEmptyPlaces = std::size_t{1} << 24;

}  // namespace shortlist
