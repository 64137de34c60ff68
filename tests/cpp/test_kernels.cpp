// Every level this CPU can run against the scalar level.
#include <cstdio>

#include "check_kernels.hpp"
#include "shortlist/simd.hpp"
#include "src/kernels/simd.hpp"

int main() {
  int n_errors = 0;
  for (const std::string& level : shortlist::simd_levels()) {
    shortlist::set_simd_level(level);
    const int n = check_kernels(shortlist::active_kernels());
    std::printf("%s: %d differences\n", level.c_str(), n);
    n_errors += n;
  }
  return n_errors == 0 ? 0 : 1;
}
