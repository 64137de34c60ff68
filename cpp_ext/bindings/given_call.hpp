// Calls for lists, from arrays of Python, and the arrays of their answers.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/call_filter.hpp"
#include "bindings/engine_columns.hpp"
#include "bindings/interpreter.hpp"
#include "bindings/ragged.hpp"
#include "engine/call.hpp"
#include "engine/catalogue.hpp"

namespace shortlist::bindings {

// What calls for lists take.
struct GivenCall {
  GivenCall(const engine::Catalogue& catalogue, std::size_t n, const py::list& given,
            std::size_t top_n, bool exclude_seen, int stages, const OptionalRagged& exclude,
            const OptionalRagged& allow, const std::vector<std::optional<Flags>>& masks,
            const std::optional<RowArray>& mask_of)
      : columns(given),
        filter(n, catalogue.view().n_rows(), exclude, allow, masks, mask_of),
        between_batches(Interruption()) {
    call.n_requests = n;
    call.columns = columns.data();
    call.n_columns = columns.size();
    call.top_n = top_n;
    call.exclude_seen = exclude_seen;
    call.stages = stages;
    call.filter = filter.get();
    call.between_batches = &between_batches;
    check_size(n, top_n, catalogue.view().n_rows());
  }

  EngineColumns columns;
  CallFilter filter;
  std::function<void()> between_batches;
  engine::Call call;
};

// The arrays of an answer.
struct GivenAnswer {
  GivenAnswer(std::size_t n, std::size_t top_n)
      : scores({n, top_n}),
        rows({n, top_n}),
        counts(static_cast<py::ssize_t>(n)),
        sources(static_cast<py::ssize_t>(n)),
        stages(static_cast<py::ssize_t>(n)) {}
  engine::AnswerView view() {
    return {scores.mutable_data(),  rows.mutable_data(),   counts.mutable_data(),
            sources.mutable_data(), stages.mutable_data(), nullptr};
  }

  py::array_t<float> scores;
  py::array_t<std::int64_t> rows, counts, sources;
  py::array_t<std::int8_t> stages;
};

}  // namespace shortlist::bindings
