// shortlist_*_num_threads, shortlist_set_executor, shortlist_get_simd_level.
#include "shortlist/thread_pool.hpp"

#include "c_api/arguments.hpp"
#include "c_api/guard.hpp"
#include "src/kernels/simd.hpp"

using namespace shortlist;
using namespace shortlist::c_api;

shortlist_status shortlist_get_num_threads(size_t* n_threads, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(n_threads, "n_threads", "the address of a size_t");
    *n_threads = num_threads();
  });
}

shortlist_status shortlist_set_num_threads(size_t n_threads, shortlist_error* error) {
  return guarded(error, [&] { set_num_threads(n_threads); });
}

shortlist_status shortlist_set_executor(const shortlist_executor* given, shortlist_error* error) {
  return guarded(error, [&] {
    if (given == nullptr) return set_executor({});
    const shortlist_executor executor = known_fields(given, "executor");
    check_pointer(reinterpret_cast<const void*>(executor.run), "executor.run",
                  "a function that runs tasks; a NULL executor brings the library's threads back");
    set_executor({executor.context, executor.run, executor.n_threads});
  });
}

shortlist_status shortlist_get_simd_level(const char** level, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(level, "level", "the address of a pointer to characters");
    *level = active_kernels().name;
  });
}
