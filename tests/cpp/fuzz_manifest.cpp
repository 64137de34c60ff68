// Fuzz target (libFuzzer's interface): bytes that claim to be a manifest, beside files that fit it,
// are missing, links, pipes or of another size, are refused with FileError or make a bundle whose
// files are all there. `make fuzz-bundles` runs it.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "engine/bundle.hpp"
#include "engine/manifest.hpp"
#include "shortlist/file_error.hpp"

using namespace shortlist;
namespace fs = std::filesystem;

namespace {

// The folder that every input is the manifest of: what tests/cpp/manifests/*.json tell of it, and
// what a bundle must not hold. The content of a file is its name.
const fs::path& folder() {
  static const fs::path made = [] {
    std::string name = (fs::temp_directory_path() / "fuzz-bundle-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    const fs::path path = name;
    for (const char* file : {"items.index", "recommend.onnx", "graphs.data"}) {
      std::ofstream(path / file) << file;
    }
    return path;
  }();
  return made;
}

void require(bool is_true) {
  if (!is_true) std::abort();
}

void check_manifest(const engine::Manifest& manifest) {
  require(manifest.n_items >= 1 && manifest.dim >= 1);
  for (const auto& [name, record] : manifest.files) {
    require(name.find('/') == name.npos && name[0] != '.' && record.sha256.size() == 64);
  }
}

// Puts one thing into the folder that does not belong there, or nothing.
void disturb(unsigned kind) {
  const fs::path path = folder() / "extra";
  fs::remove(path);
  if (kind == 1) std::ofstream(path) << "extra";
  if (kind == 2) fs::create_symlink("/etc/passwd", path);
  if (kind == 3) require(::mkfifo(path.c_str(), 0600) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    check_manifest(engine::parse_manifest(text, "fuzz"));
  } catch (const FileError&) {
    return 0;
  }
  std::ofstream(folder() / engine::kManifest, std::ios::binary) << text;
  for (unsigned kind = 0; kind < 4; ++kind) {
    disturb(kind);
    try {
      const engine::BundleFolder bundle = engine::open_bundle(folder().string(), true);
      require(kind == 0 || bundle.manifest.files.count("extra") > 0);
      require(kind < 2);  // a link or a pipe is no file of a bundle
      for (const auto& [name, record] : bundle.manifest.files) {
        require(fs::file_size(folder() / name) == record.size);
      }
    } catch (const FileError&) {
    }
  }
  return 0;
}
