// A host's tiles survive a scan, and a host without any keeps none. Included after the intrinsics,
// the compiler's or emulated ones.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "src/kernels/host_tiles.hpp"
#include "src/kernels/kernels.hpp"

namespace {

using shortlist::kernels::TileConfig;

std::vector<std::uint8_t> config_in_use() {
  std::vector<std::uint8_t> bytes(sizeof(TileConfig));
  alignas(64) TileConfig config;
  _tile_storeconfig(&config);
  shortlist::kernels::settle_memory();
  std::memcpy(bytes.data(), &config, sizeof config);
  return bytes;
}

void scan_once(const shortlist::kernels::Table& table) {
  using namespace shortlist::kernels;
  constexpr std::size_t kGroups = 20, kQueries = 18, kBlocks = 3;
  const std::vector<std::uint8_t> codes(kBlocks * kGroups * kGroupBytes, 200);
  const std::vector<std::int8_t> query(kGroups * kGroupDims, 3);
  const std::vector<const std::int8_t*> queries(kQueries, query.data());
  std::vector<std::int8_t> packed(table.many->packed_bytes(kGroups, kQueries));
  table.many->pack(queries.data(), kQueries, kGroups, packed.data());
  const std::vector<std::int32_t> thresholds(kMaxTile * kMaxScanBlocks, 0);
  std::vector<Hit> hits(kQueries * kBlocks * kBlockItems);
  table.many->scan(codes.data(), kBlocks, kGroups, packed.data(), kQueries, thresholds.data(),
                   {codes.data(), 0}, hits.data());
}

// Returns the number of differences.
int check_host_tiles(const shortlist::kernels::Table& table) {
  scan_once(table);
  const std::vector<std::uint8_t> none(sizeof(TileConfig), 0);
  const bool is_released = config_in_use() == none;
  alignas(64) TileConfig config{};
  config.palette = 1;
  for (int tile = 0; tile < 7; ++tile) {  // all sizes differ; tile 7 is not in use
    config.rows[tile] = static_cast<std::uint8_t>(16 - 2 * tile);
    config.row_bytes[tile] = static_cast<std::uint16_t>(64 - 4 * tile);
  }
  std::vector<std::uint8_t> before(7 * 1024), after(7 * 1024, 0);
  for (std::size_t i = 0; i < before.size(); ++i) before[i] = static_cast<std::uint8_t>(i * 37 + 1);
  shortlist::kernels::settle_memory();
  _tile_loadconfig(&config);
  _tile_loadd(0, before.data(), 64);
  _tile_loadd(1, before.data() + 1024, 64);
  _tile_loadd(2, before.data() + 2048, 64);
  _tile_loadd(3, before.data() + 3072, 64);
  _tile_loadd(4, before.data() + 4096, 64);
  _tile_loadd(5, before.data() + 5120, 64);
  _tile_loadd(6, before.data() + 6144, 64);
  const std::vector<std::uint8_t> config_before = config_in_use();
  scan_once(table);
  const bool is_same_config = config_in_use() == config_before;
  _tile_stored(0, after.data(), 64);
  _tile_stored(1, after.data() + 1024, 64);
  _tile_stored(2, after.data() + 2048, 64);
  _tile_stored(3, after.data() + 3072, 64);
  _tile_stored(4, after.data() + 4096, 64);
  _tile_stored(5, after.data() + 5120, 64);
  _tile_stored(6, after.data() + 6144, 64);
  _tile_release();
  int n_different = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const std::size_t tile = i / 1024, row = i % 1024 / 64, byte = i % 64;
    const bool is_in_use = row < config.rows[tile] && byte < config.row_bytes[tile];
    n_different += is_in_use && before[i] != after[i];
  }
  std::printf("host's tiles: %d bytes differ, configuration %s, %s\n", n_different,
              is_same_config ? "kept" : "lost", is_released ? "released" : "not released");
  return n_different + !is_same_config + !is_released;
}

}  // namespace
