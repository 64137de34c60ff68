#include "ort_op/search_call.hpp"

namespace shortlist::ort_op {
namespace {

thread_local const SearchCall* t_call = nullptr;

}  // namespace

const SearchCall* current_call() noexcept {
  return t_call;
}

CallScope::CallScope(const SearchCall& call) noexcept : outer_(t_call) {
  t_call = &call;
}

CallScope::~CallScope() {
  t_call = outer_;
}

}  // namespace shortlist::ort_op
