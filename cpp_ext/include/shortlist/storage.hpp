// How the item vectors that answers are scored with are stored.
#pragma once

#include <cstddef>

namespace shortlist {

// Every kind rounds each row on its own, when it is added, to values that float32 holds exactly;
// scores are exact with respect to these stored values. bfloat16 and float16 round to nearest, ties
// to even. disk8, disk6 and disk4 keep float32 rows, but scan codes of 8, 6 or 4 bits alone: of a
// file that is loaded, only the codes are kept in memory. int8 and int4 keep no rows beside the
// codes: one scale a row, codes -127 .. 127 or the odd numbers -15 .. 15; their answers are
// approximate, and their recall is measured when an index is built.
enum class Storage : int {
  float32 = 0,
  float16 = 1,
  bfloat16 = 2,
  int8 = 3,
  disk8 = 4,
  disk4 = 5,
  int4 = 6,
  disk6 = 7,
};
// By number.
constexpr const char* kStorageNames[] = {"float32", "float16", "bfloat16", "int8",
                                         "disk8",   "disk4",   "int4",     "disk6"};
constexpr std::size_t kStorages = sizeof kStorageNames / sizeof *kStorageNames;

constexpr const char* name_of(Storage storage) {
  return kStorageNames[static_cast<std::size_t>(storage)];
}
// The codes are the rows.
constexpr bool is_approximate(Storage storage) {
  return storage == Storage::int8 || storage == Storage::int4;
}
// Of a mapped file, rows stay where they are and the rest is copied.
constexpr bool has_rows_on_disk(Storage storage) {
  return storage == Storage::disk8 || storage == Storage::disk6 || storage == Storage::disk4;
}
// Codes of four bits instead of eight; disk6 has the two that follow them as well.
constexpr bool has_short_codes(Storage storage) {
  return storage == Storage::disk4 || storage == Storage::disk6 || storage == Storage::int4;
}

}  // namespace shortlist
