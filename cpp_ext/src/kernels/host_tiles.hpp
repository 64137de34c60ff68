// The tiles of the host, kept while a kernel uses its own.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

namespace shortlist::kernels {
namespace {

// The operand of LDTILECFG.
struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

// The compiler's intrinsics do not say that they read, or how much they write.
inline void settle_memory() {
  asm volatile("" ::: "memory");
}

// Loads a configuration; at the end tiles and configuration are as before. By the calling
// convention tiles are the caller's to save, but a host that is wrong about that, or whose thread
// keeps a configuration from one product to the next, loses nothing this way. Where the host has
// none, as nearly always, this costs a store and a load; else 8 KiB more of each.
class HostTiles {
 public:
  explicit HostTiles(const TileConfig& config) {
    _tile_storeconfig(&config_);
    settle_memory();
    if (config_.palette != 0) save();
    settle_memory();
    _tile_loadconfig(&config);
  }
  HostTiles(const HostTiles&) = delete;
  HostTiles& operator=(const HostTiles&) = delete;
  ~HostTiles() {
    settle_memory();
    if (config_.palette == 0) {
      _tile_release();
    } else {
      restore();
    }
  }

 private:
  static constexpr size_t kRowBytes = 64, kTileBytes = 16 * kRowBytes;

  bool has(size_t tile) const { return config_.rows[tile] != 0 && config_.row_bytes[tile] != 0; }

  __attribute__((noinline)) void save() {
    if (has(0)) _tile_stored(0, data_, kRowBytes);
    if (has(1)) _tile_stored(1, data_ + kTileBytes, kRowBytes);
    if (has(2)) _tile_stored(2, data_ + 2 * kTileBytes, kRowBytes);
    if (has(3)) _tile_stored(3, data_ + 3 * kTileBytes, kRowBytes);
    if (has(4)) _tile_stored(4, data_ + 4 * kTileBytes, kRowBytes);
    if (has(5)) _tile_stored(5, data_ + 5 * kTileBytes, kRowBytes);
    if (has(6)) _tile_stored(6, data_ + 6 * kTileBytes, kRowBytes);
    if (has(7)) _tile_stored(7, data_ + 7 * kTileBytes, kRowBytes);
  }

  __attribute__((noinline)) void restore() {
    _tile_loadconfig(&config_);
    if (has(0)) _tile_loadd(0, data_, kRowBytes);
    if (has(1)) _tile_loadd(1, data_ + kTileBytes, kRowBytes);
    if (has(2)) _tile_loadd(2, data_ + 2 * kTileBytes, kRowBytes);
    if (has(3)) _tile_loadd(3, data_ + 3 * kTileBytes, kRowBytes);
    if (has(4)) _tile_loadd(4, data_ + 4 * kTileBytes, kRowBytes);
    if (has(5)) _tile_loadd(5, data_ + 5 * kTileBytes, kRowBytes);
    if (has(6)) _tile_loadd(6, data_ + 6 * kTileBytes, kRowBytes);
    if (has(7)) _tile_loadd(7, data_ + 7 * kTileBytes, kRowBytes);
  }

  TileConfig config_;
  alignas(64) uint8_t data_[8 * kTileBytes];
};

}  // namespace
}  // namespace shortlist::kernels
