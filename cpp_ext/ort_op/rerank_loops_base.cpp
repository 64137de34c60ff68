// The loops of the rerankers for whatever the compiler may use everywhere.
#include "ort_op/rerank_loops_body.hpp"

namespace shortlist::ort_op {

const RerankLoops* rerank_loops_base() {
  return &kLoops;
}

}  // namespace shortlist::ort_op
