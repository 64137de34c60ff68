// Hashes of ids: SipHash-1-3 as Python 3.11 computes it, and keys that change everything.
#include <cstdint>
#include <cstdio>
#include <set>
#include <string>

#include "src/rows/id_hash.hpp"

namespace {

using shortlist::hash_of;
using shortlist::HashKey;

int n_errors = 0;

void expect(bool is_right, const std::string& what) {
  if (is_right) return;
  std::printf("%s\n", what.c_str());
  ++n_errors;
}

// PYTHONHASHSEED=0 python -c "print(hash(b'...') % 2**64)": its key is zero then.
void check_examples() {
  struct Example {
    const char* text;
    std::uint64_t hash;
  };
  const Example examples[] = {{"a", 0x407448D2B89B1813ULL},
                              {"ab", 0x555508CBC6ADD439ULL},
                              {"abcdefg", 0x6DB12AAE9070F506ULL},
                              {"abcdefgh", 0x3F7B849C0B8E35EAULL},
                              {"0123456789abcdef0", 0xF738BB4F30801228ULL}};
  for (const Example& example : examples) {
    expect(hash_of(std::string_view(example.text), {0, 0}) == example.hash, example.text);
  }
}

// Ids that share a place of a table under one key: as many as chance puts there share it under
// another one.
template <class Id>
void check_keys(const Id& id_of, const char* what) {
  constexpr std::uint64_t kMask = 0xFF;
  constexpr std::size_t kIds = 2048;
  const HashKey known{0x0123456789ABCDEFULL, 0xFEDCBA9876543210ULL};
  const HashKey others[] = {{known.first ^ 1, known.second},
                            {known.first, known.second ^ (std::uint64_t{1} << 63)},
                            shortlist::hash_key()};
  for (const HashKey& other : others) {
    std::set<std::uint64_t> places;
    std::size_t n = 0;
    for (std::int64_t i = 0; n < kIds; ++i) {
      if ((hash_of(id_of(i), known) & kMask) != 0) continue;
      ++n;
      places.insert(hash_of(id_of(i), other) & kMask);
    }
    expect(places.size() > 250, what);
  }
}

}  // namespace

int main() {
  check_examples();
  check_keys([](std::int64_t i) { return i; }, "ids that ascend");
  check_keys([](std::int64_t i) { return i << 40; }, "ids that differ in high bits");
  std::string text;
  check_keys(
      [&text](std::int64_t i) {
        text = "item-" + std::to_string(i);
        return std::string_view(text);
      },
      "texts");
  const HashKey& key = shortlist::hash_key();
  expect(&key == &shortlist::hash_key() && key.first != key.second, "one key of the process");
  return n_errors == 0 ? 0 : 1;
}
