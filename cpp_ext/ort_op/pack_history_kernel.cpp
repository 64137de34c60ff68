#include "ort_op/pack_history_kernel.hpp"

#include <algorithm>
#include <stdexcept>

#include "ort_op/search_call.hpp"

namespace shortlist::ort_op {
namespace {

std::size_t limit_of(const OrtApi& api, const OrtKernelInfo* info) {
  std::int64_t limit = 0;
  check(api.KernelInfoGetAttribute_int64(info, "limit", &limit));
  if (limit >= 1) return static_cast<std::size_t>(limit);
  throw std::invalid_argument("ai.shortlist.PackHistory: limit: got " + std::to_string(limit) +
                              ", expected at least 1");
}

}  // namespace

PackHistoryKernel::PackHistoryKernel(const OrtApi& api, const OrtKernelInfo* info)
    : api_(api), limit_(limit_of(api, info)) {}

OrtStatus* PackHistoryKernel::run(OrtKernelContext* context) const noexcept {
  return guarded(api_, [&] { compute(context); });
}

void PackHistoryKernel::compute(OrtKernelContext* context) const {
  Tensor codes;
  read_input(api_, context, kCodes, &codes);
  if (codes.shape.size() != 2) {
    throw std::invalid_argument("ai.shortlist.PackHistory: codes: got shape " +
                                to_text(codes.shape) + ", expected (n, length)");
  }
  const std::size_t n = static_cast<std::size_t>(codes.shape[0]);
  const std::size_t length = static_cast<std::size_t>(codes.shape[1]);
  const std::int64_t* const begin = codes.as<std::int64_t>();
  auto* counts = static_cast<std::int64_t*>(make_output(api_, context, kNKnown, {codes.shape[0]}));
  // Given items are scored for every request, as if each had a history.
  const SearchCall* const call = current_call();
  std::size_t width = call != nullptr && call->has_full_width ? limit_ : 1;
  const bool is_forced = call != nullptr && call->scores_given;
  for (std::size_t row = 0; row < n; ++row) {
    const std::int64_t* first = begin + row * length;
    const auto n_known = std::count_if(first, first + length, [](auto code) { return code > 0; });
    width = std::max(width, std::min(limit_, static_cast<std::size_t>(n_known)));
    if (counts != nullptr) counts[row] = is_forced && n_known == 0 ? 1 : n_known;
  }
  const std::vector<std::int64_t> shape = {codes.shape[0], static_cast<std::int64_t>(width)};
  auto* packed = static_cast<std::int64_t*>(make_output(api_, context, kPacked, shape));
  auto* places = static_cast<std::int64_t*>(make_output(api_, context, kPlaces, shape));
  for (std::size_t row = 0; row < n; ++row) {
    std::size_t free = (row + 1) * width;  // filled from the right
    for (std::size_t place = length; place-- > 0 && free > row * width;) {
      const std::int64_t code = begin[row * length + place];
      if (code <= 0) continue;
      --free;
      if (packed != nullptr) packed[free] = code;
      if (places != nullptr) places[free] = static_cast<std::int64_t>(place);
    }
    if (packed != nullptr) std::fill(packed + row * width, packed + free, 0);
    if (places != nullptr) std::fill(places + row * width, places + free, 0);
  }
}

}  // namespace shortlist::ort_op
