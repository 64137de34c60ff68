// ai.shortlist.PackHistory, version 1: histories as the encoder was trained on them. One node in
// place of nine standard ones (see export/recommend.py), which cost more than the work itself.
//
// Inputs
//   codes    int64 (n, length): item codes, oldest first; 0 or less = no known item
// Outputs
//   packed   int64 (n, width): the last `limit` known codes of each row, right-aligned, 0 on the
//            left; width = the longest such row, at least 1 (`limit` for a batch of the engine
//            whose shapes do not change)
//   places   int64 (n, width): the columns of `codes` they come from; 0 at padding
//   n_known  int64 (n,): known items of each row, those that were left out included
// Attributes
//   limit    int, at least 1
#pragma once

#include "ort_op/ort_api.hpp"

namespace shortlist::ort_op {

class PackHistoryKernel {
 public:
  enum Input : std::size_t { kCodes, kNInputs };
  enum Output : std::size_t { kPacked, kPlaces, kNKnown, kNOutputs };

  PackHistoryKernel(const OrtApi& api, const OrtKernelInfo* info);
  // One run of the node; what goes wrong comes back as a status.
  OrtStatus* run(OrtKernelContext* context) const noexcept;

 private:
  void compute(OrtKernelContext* context) const;

  const OrtApi& api_;
  std::size_t limit_;
};

}  // namespace shortlist::ort_op
