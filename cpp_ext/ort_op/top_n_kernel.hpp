// ai.shortlist.TopN, version 1: the exact top-N of an index, as a node of an ONNX graph.
//
// Inputs
//   queries         float (n, dim)
//   top_n           int64, one number >= 1
//   index           uint8 (file size,), constant: the bytes of an index file. As external data of
//                   the graph ("items.index" beside it) they are mapped, not copied, and found
//                   wherever the graph is.
//   exclude         int64, optional: item rows that must not come back; negative ones are ignored.
//                   (n, width), or flat with
//   exclude_splits  int64 (n + 1,), optional: query i owns exclude[splits[i], splits[i + 1]).
//   fallback_rows, fallback_scores, use_fallback
//                   int64 (m,), float (m,), bool (n,), optional, all or none: queries that say so
//                   are answered with the first of these rows that are not excluded, such as
//                   popular items where nothing is known.
//   also_exclude, also_exclude_splits
//                   int64, optional: more rows that must not come back, flat with n + 1 splits.
//   allow, allow_splits
//                   int64, optional: only these rows may come back, for each query; with two splits
//                   for all of them.
//   allow_mask      uint8 (rows of the index,), optional: the same, 0 = not allowed.
//                   Of the last five, splits and masks without values are as if left out.
//   seen_codes      int64 (n, width), optional: codes of items (row + 1; 0 or less = none) that
//                   must not come back, unless
//   exclude_seen    bool (1,), optional, is false.
//   The lists as a whole (docs/variety.md); without values these are as if left out:
//   at_most         int64 (columns,) or (n, columns): so many items of a list with the same value
//                   of each column; 0 = any number
//   groups          int32 (columns, rows of the index): the values, negative = none; or flat with
//   groups_splits   int64 (columns * rows + 1,): row r of column c owns the values from
//                   splits[c * rows + r] on
//   at_least        int64 (quotas,) or (n, quotas): so many items of a list that count
//   quotas          uint8 (quotas, rows): whether an item counts
//   diversity       double (1,) or (n,)
//   dampening       double (1,) or (n,): so many times its term is taken off an item's score
//   dampening_terms double (rows,), such as the logarithm of an item's popularity
// Outputs
//   rows            int64 (n, top_n), best first; -1 at missing places
//   scores          float (n, top_n); -infinity at missing places
//   counts          int64 (n,): how many places are real
//   codes           int64 (n, top_n): the code of each row, as the encoder takes it; 0 at missing
//                   places, and for items that came after the graph was made
//   missing         int64 (n, quotas): how many items each quota lacks
// Attributes
//   metric          optional text: the metric the graph was made for; another index is refused.
//
// The same answers as Index::search, bit for bit. Any number of threads may run one session. Long
// batches are shared out to the session's own intra-op threads; nothing here starts a thread.
#pragma once

#include <string>

#include "ort_op/ort_api.hpp"
#include "ort_op/search_call.hpp"
#include "ort_op/top_n_filter.hpp"
#include "shortlist/index.hpp"

namespace shortlist::ort_op {

// Throws std::invalid_argument for an input of the node.
[[noreturn]] void throw_bad_input(const std::string& argument, const std::string& got,
                                  const std::string& expected);

// Refuses splits that do not cut the values of the input `name` into n_lists, one for each `of`.
void check_splits(const Tensor& splits, std::size_t n_lists, const Tensor& values,
                  const std::string& name, const char* of = "queries");

class TopNKernel {
 public:
  enum Input : std::size_t {
    kQueries,
    kTopN,
    kIndex,
    kExclude,
    kExcludeSplits,
    kFallbackRows,
    kFallbackScores,
    kUseFallback,
    kAlsoExclude,
    kAlsoExcludeSplits,
    kAllow,
    kAllowSplits,
    kAllowMask,
    kSeenCodes,
    kExcludeSeen,
    kAtMost,
    kGroups,
    kGroupsSplits,
    kAtLeast,
    kQuotas,
    kDiversity,
    kDampening,
    kDampeningTerms,
    kNInputs
  };
  enum Output : std::size_t { kRows, kScores, kCounts, kCodes, kMissing, kNOutputs };

  // Throws std::invalid_argument or FileError if the node or its index is not as described.
  TopNKernel(const OrtApi& api, const OrtKernelInfo* info);
  // For a session of the engine: what is searched comes with each call (search_call.hpp); `index`
  // is checked against the node.
  TopNKernel(const OrtApi& api, const OrtKernelInfo* info, const IndexView& index);
  // One run of the node; what goes wrong comes back as a status.
  OrtStatus* run(OrtKernelContext* context) const noexcept;

 private:
  struct Run;

  void compute(OrtKernelContext* context) const;
  std::size_t read_top_n(const Run& run) const;
  void answer(const Run& run, const MatrixView& queries, const SearchOutput& output) const;
  void search(const Run& run, const MatrixView& queries, const Filter& filter,
              const SearchOutput& output) const;
  void fall_back(const Run& run, std::size_t n_searched, const Filter& filter,
                 const SearchOutput& output) const;
  void fall_back(const Run& run, std::size_t query, const AllowedRows& allowed,
                 const RankedRows& popular, const SearchOutput& output) const;

  const OrtApi& api_;
  IndexView index_;
  bool takes_calls_ = false;
};

}  // namespace shortlist::ort_op
