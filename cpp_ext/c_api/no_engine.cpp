// shortlist_engine_* of a library that was compiled without ONNX Runtime's headers.
#include "arguments.hpp"
#include "errors.hpp"
#include "guard.hpp"

using namespace shortlist::c_api;

namespace {

[[noreturn]] void refuse() {
  throw shortlist::engine::RuntimeMissing(
      "engine: this libshortlist.so was compiled without ONNX Runtime's headers and has no engine; "
      "expected one compiled with them: set ORT_INCLUDE_DIR and compile it again");
}

}  // namespace

shortlist_status shortlist_engine_open(const char*, const shortlist_engine_options*,
                                       shortlist_engine** engine, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(engine, "engine", "the address of a shortlist_engine pointer");
    *engine = nullptr;
    refuse();
  });
}

shortlist_status shortlist_engine_recommend(const shortlist_engine*, const shortlist_requests*,
                                            shortlist_answer**, shortlist_error* error) {
  return guarded(error, [] { refuse(); });
}

void shortlist_answer_free(shortlist_answer*) {}

shortlist_status shortlist_engine_swap(shortlist_engine*, const char*, shortlist_error* error) {
  return guarded(error, [] { refuse(); });
}

shortlist_status shortlist_engine_report(const shortlist_engine*, shortlist_engine_info*,
                                         shortlist_error* error) {
  return guarded(error, [] { refuse(); });
}

void shortlist_engine_close(shortlist_engine*) {}
