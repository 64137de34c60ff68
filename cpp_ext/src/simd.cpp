#include "shortlist/simd.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "simd.hpp"

namespace shortlist {
namespace {

std::vector<const kernels::Table*> runnable_tables() {
  std::vector<const kernels::Table*> tables = {kernels::scalar_table()};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (kernels::avx2_table() != nullptr && __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma")) {
    tables.push_back(kernels::avx2_table());
  }
#endif
  return tables;
}

const kernels::Table* table_named(const std::string& level, const std::string& source) {
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
