// The operators for sessions of our own, whose calls say what is searched (search_call.hpp), and
// the ONNX Runtime that has asked for the operators.
#pragma once

#include <memory>

#include "ort_op/ort_api.hpp"
#include "shortlist/index.hpp"

namespace shortlist::ort_op {

// Must outlive the sessions whose options it was added to.
class IndexOperators {
 public:
  // `index` is the bundle's, to check its metric and dim against the node's. Throws Failure.
  IndexOperators(const OrtApi& api, const IndexView& index);
  OrtStatus* add_to(OrtSessionOptions* options) const;

 private:
  struct IndexTopN : OrtCustomOp {
    explicit IndexTopN(const IndexView& checked);
    IndexView index;
  };

  const OrtApi& api_;
  IndexTopN top_n_;
  std::unique_ptr<OrtCustomOpDomain, void (*)(OrtCustomOpDomain*)> domain_;
};

// The ONNX Runtime that called RegisterCustomOps last; null if none has. The one inside Python's
// module exports nothing and can be had in no other way.
const OrtApiBase* registered_runtime();

}  // namespace shortlist::ort_op
