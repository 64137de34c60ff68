// Stands in for the compiler's header: every intrinsic in portable C, whatever the CPU.
#pragma once

#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

// Missing in SIMDe 0.7.4; exact, like the instruction.
static inline simde__m512d widen(simde__m256 x) {
  simde__m256_private from = simde__m256_to_private(x);
  simde__m512d_private to;
  for (int i = 0; i < 8; ++i) to.f64[i] = static_cast<double>(from.f32[i]);
  return simde__m512d_from_private(to);
}
#define _mm512_cvtps_pd(x) widen(x)

// SIMDe has no AMX.
#include "../emulated_tiles.hpp"
#define _tile_loadconfig(from) EmulatedTiles::of_thread().loadconfig(from)
#define _tile_storeconfig(to) EmulatedTiles::of_thread().storeconfig(to)
#define _tile_release() EmulatedTiles::of_thread().release()
#define _tile_zero(tile) EmulatedTiles::of_thread().zero(tile)
#define _tile_loadd(tile, from, stride) EmulatedTiles::of_thread().loadd(tile, from, stride)
#define _tile_stored(tile, to, stride) EmulatedTiles::of_thread().stored(tile, to, stride)
#define _tile_dpbsud(sums, a, b) EmulatedTiles::of_thread().dpbsud(sums, a, b)
