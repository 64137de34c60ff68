// Which instruction set the library runs on. Chosen once, on first use.
#pragma once

#include <string>
#include <vector>

namespace [[gnu::visibility("default")]] shortlist {

// "scalar", "avx2", ...: the best level of this CPU, or the one SHORTLIST_SIMD names.
// Throws std::invalid_argument when that level is unknown or the CPU lacks it.
std::string simd_level();
// All levels this build has and this CPU can run, slowest first.
std::vector<std::string> simd_levels();
// Uses another level from now on (tests and benchmarks; not while searches run). Throws
// std::invalid_argument like simd_level().
void set_simd_level(const std::string& level);

}  // namespace shortlist
