// The loops of the rerankers for AVX2; called only after the CPU check in src/kernels/simd.cpp.
#include "ort_op/rerank_loops_body.hpp"

namespace shortlist::ort_op {

const RerankLoops* rerank_loops_avx2() {
  return &kLoops;
}

}  // namespace shortlist::ort_op
