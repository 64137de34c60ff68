// Sums and codes of the 8-bit scan with NEON.
#pragma once

#include <arm_neon.h>

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {
namespace {

// One query with 16 items. Members instead of an array: an array may live on the stack.
struct Row {
  int32x4_t a, b, c, d;
};

// sdot multiplies signed by signed: code - 128 is the code with its top bit flipped, and the sums
// start at 128 times the sum of the query codes to make up for it.
inline Row start_row(int32_t offset) {
  return {vdupq_n_s32(offset), vdupq_n_s32(offset), vdupq_n_s32(offset), vdupq_n_s32(offset)};
}

struct Codes {
  int8x16_t a, b, c, d;
};

inline int8x16_t load_signed(const uint8_t* codes) {
  return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(codes), vdupq_n_u8(128)));
}

inline Codes load_codes(const uint8_t* codes) {
  return {load_signed(codes), load_signed(codes + 16), load_signed(codes + 32),
          load_signed(codes + 48)};
}

template <int kLane>
inline void add_row(Row& row, const Codes& x, int8x16_t queries) {
  row.a = vdotq_laneq_s32(row.a, x.a, queries, kLane);
  row.b = vdotq_laneq_s32(row.b, x.b, queries, kLane);
  row.c = vdotq_laneq_s32(row.c, x.c, queries, kLane);
  row.d = vdotq_laneq_s32(row.d, x.d, queries, kLane);
}

// The codes of up to four queries of a group, never reading past the last query's.
template <size_t kCount>
inline int8x16_t load_queries(const int8_t* queries) {
  int8_t codes[16] = {};
  __builtin_memcpy(codes, queries, (kCount < 4 ? kCount : 4) * kGroupDims);
  return vld1q_s8(codes);
}

// Up to six queries with 16 items: 24 sums, four codes and two registers of query codes fill 30 of
// 32 registers.
struct TileDots {
  Row q0, q1, q2, q3, q4, q5;
};

}  // namespace
}  // namespace shortlist::kernels
