#include "bindings/call_filter.hpp"

#include <stdexcept>

namespace shortlist::bindings {

CallFilter::CallFilter(std::size_t n, std::size_t n_rows, const OptionalRagged& exclude,
                       const OptionalRagged& allow, const std::vector<std::optional<Flags>>& masks,
                       const std::optional<RowArray>& mask_of)
    : exclude_(to_ragged(exclude)), allow_(to_ragged(allow)), masks_(masks), mask_of_(mask_of) {
  filter_.exclude = ragged_rows(exclude_, n, "exclude");
  filter_.allow = ragged_rows(allow_, n, "allow");
  for (const std::optional<Flags>& mask : masks_) {
    if (mask && static_cast<std::size_t>(mask->size()) != n_rows) {
      throw std::invalid_argument("masks: expected one flag an item row");
    }
    pointers_.push_back(mask ? reinterpret_cast<const unsigned char*>(mask->data()) : nullptr);
  }
  if (mask_of_) {
    check_numbers(n);
    filter_.allow_masks = pointers_.data();
    filter_.n_allow_masks = pointers_.size();
    filter_.mask_of = mask_of_->data();
  } else if (!pointers_.empty()) {
    filter_.allow_mask = pointers_[0];
  }
}

void CallFilter::check_numbers(std::size_t n) const {
  bool is_valid = static_cast<std::size_t>(mask_of_->size()) == n;
  for (std::size_t i = 0; is_valid && i < n; ++i) {
    const std::int64_t number = mask_of_->data()[i];
    is_valid = number >= 0 && static_cast<std::size_t>(number) < pointers_.size();
  }
  if (!is_valid) throw std::invalid_argument("mask_of: expected the number of a mask a request");
}

}  // namespace shortlist::bindings
