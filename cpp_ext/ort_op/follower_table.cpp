#include "ort_op/follower_table.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "ort_op/rerank_loops.hpp"

namespace shortlist::ort_op {
namespace {

// What one request leaves to the next one of the same thread.
struct Buffers {
  std::vector<std::int32_t> codes;
  std::vector<std::int64_t> latest;
};

// Not inline, as GCC would ask for their address at every use.
[[gnu::noinline]] Buffers& thread_buffers() {
  static thread_local Buffers buffers;
  return buffers;
}

}  // namespace

FollowerTable::FollowerTable(const OrtApi& api, const OrtKernelInfo* info, const std::string& name,
                             std::size_t first)
    : followers_(read_constant(api, info, name, first, "followers", 2)),
      shares_(read_constant(api, info, name, first + 1, "shares", 2)),
      fading_(read_constant(api, info, name, first + 2, "fading", 1)),
      n_codes_(static_cast<std::size_t>(followers_.shape[0])),
      n_followers_(static_cast<std::size_t>(followers_.shape[1])) {
  if (n_codes_ == 0 || n_codes_ > std::numeric_limits<std::int32_t>::max()) {
    throw_bad(name, "followers", "shape " + to_text(followers_.shape), "1 to 2^31 - 1 rows");
  }
  if (shares_.shape != followers_.shape) {
    throw_bad(name, "shares", "shape " + to_text(shares_.shape),
              to_text(followers_.shape) + " as followers");
  }
  if (fading_.size == 0) throw_bad(name, "fading", "no numbers", "one for each latest item");
}

void FollowerTable::sum_shares(const Candidates& candidates, std::size_t request,
                               float* sums) const {
  std::vector<std::int32_t>& codes = thread_buffers().codes;
  std::vector<std::int64_t>& latest = thread_buffers().latest;
  const std::size_t n = candidates.n_candidates(), n_latest = fading_.size;
  codes.resize(n);
  std::transform(candidates.codes(request), candidates.codes(request) + n, codes.begin(),
                 [](std::int64_t code) { return static_cast<std::int32_t>(code); });
  std::fill_n(sums, n, 0.0F);
  candidates.read_latest(request, n_latest, &latest);
  const RerankLoops& loops = rerank_loops();
  for (std::size_t age = latest.size(); age-- > 0;) {  // the oldest first
    const std::size_t row = static_cast<std::size_t>(latest[age]) * n_followers_;
    const float faded = fading_.as<float>()[n_latest - 1 - age];
    for (std::size_t i = row; i < row + n_followers_; ++i) {
      const std::int32_t code = followers_.as<std::int32_t>()[i];
      if (code <= 0) continue;
      loops.add_matches(codes.data(), n, code, shares_.as<float>()[i] * faded, sums);
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (codes[i] <= 0) sums[i] = 0.0F;
  }
}

}  // namespace shortlist::ort_op
