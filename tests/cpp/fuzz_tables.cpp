// Fuzz target (libFuzzer's interface): bytes that claim to be an Arrow file are refused with
// FileError, or make columns of which every value can be read. `make fuzz-bundles` runs it.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "engine/arrow_file.hpp"
#include "shortlist/file_error.hpp"

using shortlist::engine::ArrowColumn;

namespace {

std::uint64_t n_read = 0;  // so that no reading is left out

void read_all(const ArrowColumn& column) {
  using Kind = ArrowColumn::Kind;
  for (std::size_t i = 0; i < column.n; ++i) {
    if (!column.is_given(i)) continue;
    if (column.kind == Kind::text) {
      for (const char letter : column.text_at(i)) n_read += static_cast<unsigned char>(letter);
    } else if (column.kind == Kind::list) {
      if (column.begin(i) > column.begin(i + 1) || column.begin(i + 1) > column.values().n) {
        std::abort();
      }
    } else if (column.kind == Kind::real) {
      n_read += column.real_at(i) > 0 ? 1 : 0;
    } else {
      n_read += static_cast<std::uint64_t>(column.integer_at(i));
    }
  }
  for (const ArrowColumn& child : column.children) read_all(child);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string name = "fuzz";
  try {
    for (const ArrowColumn& column : shortlist::engine::read_arrow({name, data, size})) {
      read_all(column);
    }
  } catch (const shortlist::FileError&) {
  }
  return 0;
}
