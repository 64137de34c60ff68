// Writes small index files of every kind into a folder: the corpus that fuzzing starts from.
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "shortlist/index.hpp"
#include "shortlist/nibbles.hpp"

using namespace shortlist;

namespace {

ItemIds ids_of(ItemIds::Kind kind, std::size_t n_items) {
  if (kind == ItemIds::Kind::row_numbers) return ItemIds::row_numbers(n_items);
  std::vector<std::int64_t> numbers, offsets = {0};
  std::string bytes;
  for (std::size_t i = 0; i < n_items; ++i) {
    numbers.push_back(static_cast<std::int64_t>(7 * i) - 20);
    bytes += "\xC3\xBC" + std::to_string(i);
    offsets.push_back(static_cast<std::int64_t>(bytes.size()));
  }
  if (kind == ItemIds::Kind::int64) return ItemIds::from_int64(std::move(numbers));
  return ItemIds::from_strings(std::move(bytes), std::move(offsets));
}

void write(const std::string& path, std::size_t n_items, std::size_t dim, Metric metric,
           Storage storage, ItemIds::Kind kind) {
  std::vector<float> vectors(n_items * dim);
  std::uint32_t state = 1;
  for (float& value : vectors) {  // rows of very different lengths, so that rows are reordered
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) / 8388608.0F - 1.0F;
  }
  for (std::size_t i = 0; i < n_items * dim; ++i) vectors[i] *= static_cast<float>(1 + i / dim);
  IndexBuilder builder(n_items, dim, metric, storage);
  builder.add({vectors.data(), n_items, dim});
  builder.finish(ids_of(kind, n_items)).view().save(path);
}

}  // namespace

// GCC's trace-pc calls it; only the fuzz driver wants to know.
extern "C" void __sanitizer_cov_trace_pc() {}

int main(int n_arguments, char** arguments) {
  if (n_arguments != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
    return 1;
  }
  const std::filesystem::path folder = arguments[1];
  std::filesystem::create_directories(folder);
  int n_files = 0;
  for (const std::size_t n_items : {0U, 1U, 70U, 71U, 130U}) {
    set_min_code_bytes_for_nibbles(n_items == 71 ? 0 : 1 << 20);
    for (int metric = 0; metric < 3; ++metric) {
      for (int storage = 0; storage < static_cast<int>(kStorages); ++storage) {
        for (int kind = 0; kind < 3; ++kind) {
          const std::string name = "seed-" + std::to_string(n_files++) + ".index";
          write((folder / name).string(), n_items, 1 + n_items % 5, static_cast<Metric>(metric),
                static_cast<Storage>(storage), static_cast<ItemIds::Kind>(kind));
        }
      }
    }
  }
  std::printf("%d files in %s\n", n_files, folder.c_str());
}
