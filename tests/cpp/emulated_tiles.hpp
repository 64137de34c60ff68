// The tile instructions of AMX in portable C++: what simde/immintrin.h makes of the intrinsics.
// Where the CPU would fault, the program ends with a message.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

class EmulatedTiles {
 public:
  // One for each thread, as registers are.
  static EmulatedTiles& of_thread() {
    static thread_local EmulatedTiles tiles;
    return tiles;
  }

  void loadconfig(const void* from) {
    std::memcpy(&config_, from, sizeof config_);
    std::memset(data_, 0, sizeof data_);
    if (config_.palette == 0) return release();
    require(config_.palette == 1, "LDTILECFG: palette");
    for (const std::uint8_t byte : config_.reserved) require(byte == 0, "LDTILECFG: reserved");
    for (int tile = 0; tile < 16; ++tile) {
      const int rows = config_.rows[tile], row_bytes = config_.row_bytes[tile];
      require(rows <= (tile < kTiles ? kRows : 0), "LDTILECFG: rows");
      require(row_bytes <= (tile < kTiles ? kRowBytes : 0), "LDTILECFG: bytes of a row");
      require((rows == 0) == (row_bytes == 0), "LDTILECFG: rows without bytes, or the reverse");
    }
  }

  void storeconfig(void* to) const { std::memcpy(to, &config_, sizeof config_); }

  void release() {
    config_ = {};
    std::memset(data_, 0, sizeof data_);
  }

  void zero(int tile) {
    require(has(tile), "TILEZERO: tile");
    std::memset(data_[tile], 0, sizeof data_[tile]);
  }

  void loadd(int tile, const void* from, std::size_t stride) {
    zero(tile);
    for (int row = 0; row < config_.rows[tile]; ++row) {
      std::memcpy(data_[tile][row], static_cast<const char*>(from) + row * stride,
                  config_.row_bytes[tile]);
    }
  }

  void stored(int tile, void* to, std::size_t stride) const {
    require(has(tile), "TILESTORED: tile");
    for (int row = 0; row < config_.rows[tile]; ++row) {
      std::memcpy(static_cast<char*>(to) + row * stride, data_[tile][row], config_.row_bytes[tile]);
    }
  }

  // sums += a * b: four products of a signed and an unsigned byte to each sum.
  void dpbsud(int sums, int a, int b) {
    require(has(sums) && has(a) && has(b), "TDPBSUD: tile");
    require(sums != a && sums != b && a != b, "TDPBSUD: the same tile twice");
    require(config_.rows[sums] == config_.rows[a], "TDPBSUD: rows of the first operand");
    require(config_.row_bytes[sums] == config_.row_bytes[b], "TDPBSUD: columns of the second");
    require(config_.row_bytes[a] % 4 == 0 && config_.row_bytes[a] == 4 * config_.rows[b],
            "TDPBSUD: inner size");
    for (int row = 0; row < config_.rows[sums]; ++row) {
      for (int column = 0; column < config_.row_bytes[sums] / 4; ++column) {
        std::int32_t sum;
        std::memcpy(&sum, data_[sums][row] + 4 * column, 4);
        for (int k = 0; k < config_.row_bytes[a]; ++k) {
          const int code = static_cast<std::int8_t>(data_[a][row][k]);
          sum += code * data_[b][k / 4][4 * column + k % 4];
        }
        std::memcpy(data_[sums][row] + 4 * column, &sum, 4);
      }
    }
  }

 private:
  static constexpr int kTiles = 8, kRows = 16, kRowBytes = 64;

  static void require(bool is_met, const char* what) {
    if (is_met) return;
    std::fprintf(stderr, "a CPU would fault: %s\n", what);
    std::abort();
  }

  bool has(int tile) const { return config_.palette == 1 && config_.rows[tile] != 0; }

  struct {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
  } config_{};
  std::uint8_t data_[kTiles][kRows][kRowBytes] = {};
};
