#include "shortlist/simd.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "src/kernels/simd.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace shortlist {
namespace {

#if defined(__x86_64__)

// GCC 12 has no name for it. AVX2's own check covers the operating system: the registers are the
// same.
bool has_avxvnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || a < 1) return false;
  __cpuid_count(7, 1, a, b, c, d);
  return (a >> 4 & 1) != 0;
}

// The instructions, and Linux's permission to use them: it is for the process, and never withdrawn.
// A request fails on systems without it, and where the signal stack of a thread is too small for
// the registers.
bool has_amx() {
#if defined(__linux__)
  if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-int8")) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  static const bool is_permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return is_permitted;
#else
  return false;
#endif
}

void add_native_tables(std::vector<const kernels::Table*>& tables, bool may_ask) {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return;
  tables.push_back(kernels::avx2_table());
  if (has_avxvnni()) tables.push_back(kernels::avxvnni_table());
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
    tables.push_back(kernels::avx512_table());
    if (may_ask && has_amx()) tables.push_back(kernels::amx_table());
  }
}

#elif defined(__aarch64__) && defined(__linux__)

void add_native_tables(std::vector<const kernels::Table*>& tables, bool) {
  constexpr unsigned long kDotProduct = 1UL << 20;  // HWCAP_ASIMDDP
  if ((getauxval(AT_HWCAP) & kDotProduct) != 0) tables.push_back(kernels::neon_table());
}

#else

void add_native_tables(std::vector<const kernels::Table*>&, bool) {}

#endif

// Slowest first. May ask: the system for what only it can permit.
std::vector<const kernels::Table*> runnable_tables(bool may_ask = true) {
  std::vector<const kernels::Table*> tables = {kernels::scalar_table()};
  add_native_tables(tables, may_ask);
  return tables;
}

const kernels::Table* table_named(const std::string& level, const std::string& source) {
  for (const kernels::Table* table : runnable_tables(false)) {
    if (level == table->name) return table;
  }
  std::string names;
  for (const kernels::Table* table : runnable_tables()) {
    if (level == table->name) return table;
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  }
  throw std::invalid_argument(source + ": got '" + level +
                              "'; expected a level this CPU can run: " + names +
                              "; unset it to use the best one");
}

std::atomic<const kernels::Table*> active{nullptr};

}  // namespace

const kernels::Table& active_kernels() {
  const kernels::Table* table = active.load(std::memory_order_acquire);
  if (table == nullptr) {
    const char* level = std::getenv("SHORTLIST_SIMD");
    table = level == nullptr || *level == '\0' ? runnable_tables().back()
                                               : table_named(level, "SHORTLIST_SIMD");
    active.store(table, std::memory_order_release);
  }
  return *table;
}

std::string simd_level() {
  return active_kernels().name;
}

std::vector<std::string> simd_levels() {
  std::vector<std::string> names;
  for (const kernels::Table* table : runnable_tables()) names.emplace_back(table->name);
  return names;
}

void set_simd_level(const std::string& level) {
  active.store(table_named(level, "level"), std::memory_order_release);
}

}  // namespace shortlist
