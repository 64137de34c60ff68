// What the lists of a TopN node have to look like as a whole, from its inputs (top_n_kernel.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ort_op/ort_api.hpp"
#include "shortlist/variety.hpp"

namespace shortlist::ort_op {

class TopNVariety {
 public:
  // Borrows the node's inputs for the length of its run. Throws std::invalid_argument.
  TopNVariety(const OrtApi& api, const OrtKernelContext* context, std::size_t n_queries,
              std::size_t n_rows, std::size_t top_n);

  const Variety& variety() const { return variety_; }

 private:
  void read_caps(std::size_t n_rows);
  void read_quotas(std::size_t n_rows, std::size_t top_n);
  void read_weights(std::size_t n_rows);
  std::vector<std::int32_t> counts_of(std::size_t input, const char* name, std::size_t most,
                                      std::size_t* width) const;
  std::vector<double> weights_of(std::size_t input, const char* name, double most) const;

  const OrtApi& api_;
  const OrtKernelContext* context_;
  std::size_t n_queries_;
  Variety variety_;
  std::vector<GroupColumn> columns_;
  std::vector<const unsigned char*> quotas_;
  std::vector<std::int32_t> at_most_, at_least_;
  std::vector<double> diversity_, dampening_;
};

}  // namespace shortlist::ort_op
