// The emulation of the tile instructions against the CPU, and what a host keeps. Passes without a
// look where there is no AMX.
#include <immintrin.h>

#include <algorithm>
#include <random>

#include "check_host_tiles.hpp"
#include "emulated_tiles.hpp"
#include "shortlist/simd.hpp"

namespace {

std::mt19937 random_numbers(20240229);

void fill(std::vector<std::uint8_t>& bytes) {
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random_numbers());
}

// One product of random sizes, all bytes of memory compared: also those that neither may write.
int check_product(std::size_t n_rows, std::size_t n_inner, std::size_t n_columns) {
  alignas(64) TileConfig config{};
  config.palette = 1;
  config.rows[0] = config.rows[1] = static_cast<std::uint8_t>(n_rows);
  config.rows[2] = static_cast<std::uint8_t>(n_inner);
  config.row_bytes[0] = config.row_bytes[2] = static_cast<std::uint16_t>(4 * n_columns);
  config.row_bytes[1] = static_cast<std::uint16_t>(4 * n_inner);
  const std::size_t stride = 64 + 4 * (random_numbers() % 8);
  std::vector<std::uint8_t> a(16 * stride), b(16 * stride), sums(16 * stride);
  fill(a), fill(b), fill(sums);
  std::vector<std::uint8_t> zero = sums, emulated = sums, emulated_zero = sums;
  alignas(64) TileConfig config_after, emulated_config_after;

  EmulatedTiles tiles;
  tiles.loadconfig(&config);
  tiles.loadd(0, emulated.data(), stride);
  tiles.loadd(1, a.data(), stride);
  tiles.loadd(2, b.data(), stride);
  tiles.dpbsud(0, 1, 2);
  tiles.stored(0, emulated.data(), stride);
  tiles.zero(0);
  tiles.stored(0, emulated_zero.data(), stride);
  tiles.storeconfig(&emulated_config_after);

  shortlist::kernels::settle_memory();
  _tile_loadconfig(&config);
  _tile_loadd(0, sums.data(), stride);
  _tile_loadd(1, a.data(), stride);
  _tile_loadd(2, b.data(), stride);
  _tile_dpbsud(0, 1, 2);
  _tile_stored(0, sums.data(), stride);
  _tile_zero(0);
  _tile_stored(0, zero.data(), stride);
  _tile_storeconfig(&config_after);
  shortlist::kernels::settle_memory();
  _tile_release();
  return (sums != emulated) + (zero != emulated_zero) +
         (std::memcmp(&config_after, &emulated_config_after, sizeof config) != 0);
}

}  // namespace

int main() {
  const std::vector<std::string> levels = shortlist::simd_levels();  // asks for permission
  if (std::find(levels.begin(), levels.end(), "amx-int8") == levels.end()) {
    std::printf("no AMX here\n");
    return 0;
  }
  int n_errors = check_host_tiles(*shortlist::kernels::amx_table());
  for (std::size_t n_rows = 1; n_rows <= 16; ++n_rows) {
    for (std::size_t n_inner = 1; n_inner <= 16; ++n_inner) {
      for (const std::size_t n_columns : {1, 5, 16}) {
        n_errors += check_product(n_rows, n_inner, n_columns);
      }
    }
  }
  std::printf("emulated tiles: %d differences\n", n_errors);
  return n_errors == 0 ? 0 : 1;
}
