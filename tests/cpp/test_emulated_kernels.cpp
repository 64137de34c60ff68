// The levels of other x86 CPUs, in portable emulation, against the scalar level.
#include <immintrin.h>

#include <cstdio>
#include <initializer_list>

#include "check_host_tiles.hpp"
#include "check_kernels.hpp"

int main() {
  using namespace shortlist::kernels;
  int n_errors = 0;
  for (const Table* table : {avxvnni_table(), avx512_table(), amx_table()}) {
    const int n = check_kernels(*table);
    std::printf("%s: %d differences\n", table->name, n);
    n_errors += n;
  }
  n_errors += check_host_tiles(*amx_table());
  return n_errors == 0 ? 0 : 1;
}
