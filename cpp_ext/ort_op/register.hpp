// The operators for sessions of our own, over an index that is loaded already.
#pragma once

#include <memory>

#include "ort_api.hpp"
#include "shortlist/index.hpp"

namespace shortlist::ort_op {

// Must outlive the sessions whose options it was added to.
class IndexOperators {
 public:
  // TopN searches this index, whatever its input `index` holds. Throws Failure.
  IndexOperators(const OrtApi& api, const IndexView& index);
  OrtStatus* add_to(OrtSessionOptions* options) const;

 private:
  struct IndexTopN : OrtCustomOp {
    explicit IndexTopN(const IndexView& searched);
    IndexView index;
  };

  const OrtApi& api_;
  IndexTopN top_n_;
  std::unique_ptr<OrtCustomOpDomain, void (*)(OrtCustomOpDomain*)> domain_;
};

}  // namespace shortlist::ort_op
