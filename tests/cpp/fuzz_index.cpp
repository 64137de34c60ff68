// Fuzz target (libFuzzer's interface): bytes that claim to be an index file are refused, or make an
// index that can be searched, changed and saved. `make fuzz` runs it.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "shortlist/index.hpp"
#include "src/file/index_file.hpp"

using namespace shortlist;

namespace {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Bytes = std::unique_ptr<unsigned char, Free>;

// Aligned as the loader likes it, so that it reads here and a byte too far is seen.
Bytes aligned_copy(const std::uint8_t* data, std::size_t size) {
  void* memory = nullptr;
  if (::posix_memalign(&memory, file::kAlignment, size) != 0) std::abort();
  if (size > 0) std::memcpy(memory, data, size);
  return Bytes(static_cast<unsigned char*>(memory));
}

// Checksums and the size would stop every mutation at once: make them true again.
void repair(unsigned char* bytes, std::size_t size) {
  file::Header header;
  if (size < sizeof header) return;
  std::memcpy(&header, bytes, sizeof header);
  header.file_size = size;
  for (std::size_t i = 0; i < file::kMaxSections; ++i) {
    file::Section& section = header.sections[i];
    if (section.offset > size || section.size > size - section.offset) continue;
    section.checksum =
        file::checksum(bytes + section.offset, static_cast<std::size_t>(section.size));
  }
  header.checksum = file::checksum(&header, offsetof(file::Header, checksum));
  std::memcpy(bytes, &header, sizeof header);
}

// Only an index without items can claim more in a small file; queries of it are large.
constexpr std::size_t kMostDim = 4096;

void require(bool is_true) {
  if (!is_true) std::abort();
}

void search(const IndexView& view) {
  constexpr std::size_t kTopN = 3;
  const std::size_t n_queries = 2;
  std::vector<float> queries(n_queries * view.dim(), 0.5F);
  for (std::size_t d = 0; d < view.dim(); d += 2) queries[d] = -2.0F;
  std::vector<float> scores(n_queries * kTopN);
  std::vector<std::int64_t> rows(n_queries * kTopN), counts(n_queries);
  const std::int64_t excluded[] = {0, -1}, splits[] = {0, 1, 2};
  Filter filters[2];
  if (view.n_rows() > 0) filters[1].exclude = {excluded, splits};
  for (const Filter& filter : filters) {
    view.search({queries.data(), n_queries, view.dim()}, kTopN, filter, 1,
                {scores.data(), rows.data(), counts.data()});
    for (const std::int64_t row : rows) {
      require(row >= -1 && row < static_cast<std::int64_t>(view.n_rows()));
    }
    for (const std::int64_t count : counts) require(count <= static_cast<std::int64_t>(kTopN));
  }
}

void read_items(const IndexView& view) {
  std::vector<float> vector(view.dim());
  for (std::size_t row = 0; row < view.n_rows(); ++row) {
    const std::int64_t found = view.id_kind() == ItemIds::Kind::string
                                   ? view.row_of(view.string_at(row))
                                   : view.row_of(view.int64_at(row));
    require(found == static_cast<std::int64_t>(row));
    require(view.copy_vector(row, vector.data()));
  }
}

void change(Index& index) {
  const IndexView view = index.view();
  const std::vector<float> vectors(2 * view.dim(), 0.25F);
  const bool is_string = view.id_kind() == ItemIds::Kind::string;
  const ItemIds ids =
      is_string ? ItemIds::from_strings("ab", {0, 1, 2}) : ItemIds::from_int64({0, 1LL << 40});
  index.upsert(ids, {vectors.data(), 2, view.dim()});
  search(index.view());
  require(index.remove(ids) == 2);
  search(index.view());
}

void try_bytes(const unsigned char* bytes, std::size_t size) {
  try {
    Index index = Index::borrow("fuzz", bytes, size);
    if (index.view().dim() > kMostDim) return;
    search(index.view());
    read_items(index.view());
    change(index);
    index.view().save("/dev/null/not-a-folder");
  } catch (const FileError&) {  // refused, or the last line above
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes bytes = aligned_copy(data, size);
  try_bytes(bytes.get(), size);
  repair(bytes.get(), size);
  try_bytes(bytes.get(), size);
  return 0;
}
