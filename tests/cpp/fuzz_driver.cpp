// What runs a fuzz target where there is no libFuzzer: mutates the files of a folder for some
// seconds, and keeps inputs that reach code no input reached before (GCC's trace-pc). An input that
// takes longer than the timeout is a finding. Takes libFuzzer's own arguments:
// fuzz_index -max_total_time=60 -timeout=5 CORPUS SEEDS..., or one file to run.
#include <sanitizer/common_interface_defs.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

constexpr std::size_t kMapSize = 1 << 16;
constexpr std::size_t kMostBytes = 1 << 16;
std::uint8_t reached[kMapSize];  // in this run: 0, 1, 2, 3 = more often
std::uint8_t known[kMapSize];    // bits of `reached` in any run
Input current;
double timeout = 1200;  // seconds of one input, libFuzzer's default

}  // namespace

extern "C" __attribute__((no_sanitize_coverage, no_sanitize("address", "undefined"))) void
__sanitizer_cov_trace_pc() {
  const std::uintptr_t place = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
  std::uint8_t& count = reached[(place ^ (place >> 16)) % kMapSize];
  count = static_cast<std::uint8_t>(count < 3 ? count + 1 : 3);
}

// A file of 64 KB gets no gigabytes: an allocation beyond this is a finding.
extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=64";
}

namespace {

Input read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write(const std::filesystem::path& path, const Input& input) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(input.data()),
             static_cast<std::streamsize>(input.size()));
}

void save_current() {
  write("crash.index", current);
  std::fprintf(stderr, "fuzz: the input is in crash.index\n");
}

// Of this process, whatever else the machine does meanwhile.
double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

// True if the input reached something new.
bool run(const Input& input) {
  current = input;
  std::memset(reached, 0, sizeof reached);
  const double start = cpu_seconds();
  LLVMFuzzerTestOneInput(input.data(), input.size());
  if (const double taken = cpu_seconds() - start; taken > timeout) {
    std::fprintf(stderr, "fuzz: an input of %zu bytes took %.1f s\n", input.size(), taken);
    save_current();
    std::exit(1);
  }
  bool is_new = false;
  for (std::size_t i = 0; i < kMapSize; ++i) {
    const std::uint8_t bit = static_cast<std::uint8_t>(reached[i] == 0 ? 0 : 1U << reached[i]);
    is_new = is_new || (known[i] & bit) != bit;
    known[i] |= bit;
  }
  return is_new;
}

class Mutator {
 public:
  std::size_t below(std::size_t n) { return n == 0 ? 0 : random_() % n; }

  void mutate(Input& input, const Input& other) {
    for (std::size_t n = 1 + below(4); n > 0; --n) mutate_once(input, other);
    if (input.size() > kMostBytes) input.resize(kMostBytes);
  }

 private:
  // The header and the start of each section hold what decides; the numbers behind matter less.
  std::size_t place(const Input& input) {
    const std::size_t n = below(2) == 0 ? std::min<std::size_t>(input.size(), 520) : input.size();
    return below(n);
  }

  void put_number(Input& input) {
    static const std::uint64_t kNumbers[] = {
        0,          1,          2,           63,          64,         65,
        255,        65536,      0x7F800000U, 0x7FC00000U, 0x7FFFFFFF, 0x80000000U,
        0xFFFFFFFF, 1ULL << 32, 1ULL << 62,  1ULL << 63,  ~0ULL,      ~0ULL - 63};
    const std::size_t size = std::size_t{1} << below(4);
    const std::size_t at = place(input) / size * size;
    if (at + size > input.size()) return;
    std::uint64_t number = 0;
    std::memcpy(&number, input.data() + at, size);
    const std::uint64_t step = 1 + below(64);
    if (below(2) == 0) {
      number = kNumbers[below(std::size(kNumbers))];
    } else {
      number = below(2) == 0 ? number + step : number - step;
    }
    std::memcpy(input.data() + at, &number, size);
  }

  void mutate_once(Input& input, const Input& other) {
    if (input.empty()) input.push_back(0);
    const std::size_t at = place(input);
    switch (below(7)) {
      case 0:
        input[at] ^= static_cast<std::uint8_t>(1U << below(8));
        break;
      case 1:
        input[at] = static_cast<std::uint8_t>(random_());
        break;
      case 2:
      case 3:
        put_number(input);
        break;
      case 4: {  // a piece of another file
        if (other.empty()) break;
        const std::size_t from = below(other.size());
        const std::size_t n = std::min({1 + below(64), other.size() - from, input.size() - at});
        std::memcpy(input.data() + at, other.data() + from, n);
        break;
      }
      case 5:
        input.resize(below(input.size() + 1));
        break;
      default:
        input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), 1 + below(130), 0);
    }
  }

  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace

int main(int n_arguments, char** arguments) {
  __sanitizer_set_death_callback(save_current);
  double seconds = 0;
  std::vector<Input> corpus;
  std::filesystem::path keep;
  for (int i = 1; i < n_arguments; ++i) {
    const std::string argument = arguments[i];
    if (argument.rfind("-max_total_time=", 0) == 0) {
      seconds = std::stod(argument.substr(argument.find('=') + 1));
    } else if (argument.rfind("-timeout=", 0) == 0) {
      timeout = std::stod(argument.substr(argument.find('=') + 1));
    } else if (!std::filesystem::is_directory(argument)) {
      run(read(argument));
      return 0;
    } else {
      if (keep.empty()) keep = argument;
      for (const auto& entry : std::filesystem::directory_iterator(argument)) {
        corpus.push_back(read(entry.path()));
      }
    }
  }
  if (corpus.empty()) corpus.emplace_back();
  for (const Input& input : corpus) run(input);
  Mutator mutator;
  const auto start = std::chrono::steady_clock::now();
  const std::chrono::duration<double> limit(seconds);
  std::size_t n_runs = corpus.size();
  const std::size_t n_before = corpus.size();
  for (; std::chrono::steady_clock::now() - start < limit; ++n_runs) {
    Input input = corpus[mutator.below(corpus.size())];
    mutator.mutate(input, corpus[mutator.below(corpus.size())]);
    if (!run(input)) continue;
    if (!keep.empty()) write(keep / ("new-" + std::to_string(corpus.size())), input);
    corpus.push_back(std::move(input));
  }
  std::printf("fuzz: %zu runs, %zu inputs kept that reached something new, no finding\n", n_runs,
              corpus.size() - n_before);
}
