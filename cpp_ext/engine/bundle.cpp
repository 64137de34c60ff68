#include "engine/bundle.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "shortlist/file_error.hpp"
#include "shortlist/file_hash.hpp"
#include "shortlist/item_ids.hpp"
#include "shortlist/storage.hpp"
#include "src/file/file_reader.hpp"

namespace shortlist::engine {
namespace {

[[noreturn]] void throw_bad(const std::string& where, const std::string& expected,
                            const std::string& found) {
  throw FileError(where + ": expected " + expected + ", found " + found);
}

// As the messages of Python write it: 1,234,567 bytes.
std::string in_bytes(std::uint64_t size) {
  std::string digits = std::to_string(size);
  for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits + " bytes";
}

// Opens a regular file without following a link and without waiting on a pipe; sets its size.
Descriptor open_plain(int folder, const std::string& name, const std::string& where,
                      std::uint64_t* size) {
  Descriptor file(::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file.number() < 0) {
    const int code = errno;
    if (code == ENOENT) throw_bad(where, "a file", "no such file");
    throw_bad(where, "a plain file", code == ELOOP ? "a symbolic link" : std::strerror(code));
  }
  struct stat status;
  if (::fstat(file.number(), &status) != 0 || !S_ISREG(status.st_mode)) {
    throw_bad(where, "a plain file", "a folder or special file");
  }
  *size = static_cast<std::uint64_t>(status.st_size);
  return file;
}

// Fills as much of the buffer as the file has; returns how much that was.
std::size_t read_some(int file, char* buffer, std::size_t size, const std::string& where) {
  std::size_t n = 0;
  while (n < size) {
    const ssize_t got = ::read(file, buffer + n, size - n);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_bad(where, "a file that can be read", std::strerror(errno));
    if (got == 0) break;
    n += static_cast<std::size_t>(got);
  }
  return n;
}

Manifest read_manifest(int folder, const std::string& where) {
  std::uint64_t size = 0;
  const Descriptor file = open_plain(folder, kManifest, where, &size);
  if (size > kMaxManifestBytes) {
    throw_bad(where, "at most " + in_bytes(kMaxManifestBytes), in_bytes(size));
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  text.resize(read_some(file.number(), text.data(), text.size(), where));
  return parse_manifest(text, where);
}

void check_file(int folder, const std::string& name, const std::string& where,
                const FileRecord& record, bool check_hash,
                const std::function<void()>& between_blocks) {
  std::uint64_t size = 0;
  const Descriptor file = open_plain(folder, name, where, &size);
  if (size != record.size) {
    throw_bad(where, in_bytes(record.size), in_bytes(size));
  }
  if (!check_hash) return;
  const std::string found = hash_file(file.number(), where, between_blocks);
  if (found != record.sha256) throw_bad(where, "sha256 " + record.sha256, "sha256 " + found);
}

void check_nothing_else(int folder, const BundleFolder& bundle) {
  const int copy = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(copy < 0 ? nullptr : ::fdopendir(copy),
                                                    ::closedir);
  if (entries == nullptr) {
    if (copy >= 0) ::close(copy);
    throw_bad(bundle.path, "a folder that can be read", std::strerror(errno));
  }
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || name == kManifest) continue;
    if (bundle.manifest.files.count(name) == 0) {
      throw_bad(bundle.name + "/" + name, "only files the manifest lists", "an extra file");
    }
  }
}

}  // namespace

std::string BundleFolder::file(const std::string& file_name) const {
  const std::string held = "/proc/self/fd/" + std::to_string(folder.number());
  return (::access(held.c_str(), F_OK) == 0 ? held : path) + "/" + file_name;
}

void BundleFolder::throw_no_entry(const std::string& file_name) const {
  throw FileError(name + "/" + file_name +
                  ": expected a file of the bundle, found no such entry in its manifest; export "
                  "the run again with this release");
}

BundleFolder open_bundle(const std::string& path, bool check_hashes, const std::string& name,
                         const std::function<void()>& between_blocks) {
  BundleFolder bundle;
  // Opened first: what the path leads to may have another name, or none, a moment later.
  bundle.folder = Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const int folder = bundle.folder.number();
  if (folder < 0) {
    throw_bad(path, "a bundle folder",
              errno == ENOENT    ? "nothing there"
              : errno == ENOTDIR ? "a file; unpack a zipped bundle first"
                                 : std::strerror(errno));
  }
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), ::free);
  bundle.path = real == nullptr ? path : real.get();
  bundle.name = name.empty() ? bundle.path.substr(bundle.path.rfind('/') + 1) : name;
  bundle.manifest = read_manifest(folder, bundle.name + "/" + kManifest);
  check_nothing_else(folder, bundle);
  for (const auto& [file, record] : bundle.manifest.files) {
    check_file(folder, file, bundle.name + "/" + file, record, check_hashes, between_blocks);
  }
  return bundle;
}

void check_index(const BundleFolder& bundle) {
  const std::string where = bundle.name + "/items.index";
  const FileReader file(bundle.file("items.index"), where);
  const Manifest& manifest = bundle.manifest;
  const auto expect = [&where](const std::string& key, const std::string& said,
                               const std::string& found) {
    if (found != said) throw_bad(where, "the manifest's " + key + " " + said, found);
  };
  constexpr const char* kMetrics[] = {"cosine", "dot", "euclidean"};
  const auto kind = static_cast<ItemIds::Kind>(file.header().id_kind);
  expect("n_items", std::to_string(manifest.n_items), std::to_string(file.n_items()));
  expect("dim", std::to_string(manifest.dim), std::to_string(file.dim()));
  expect("metric", manifest.metric, kMetrics[file.header().metric]);
  expect("storage", manifest.storage, kStorageNames[file.header().storage]);
  expect("item_id_dtype", manifest.item_id_dtype,
         kind == ItemIds::Kind::string ? "string" : "int64");
}

}  // namespace shortlist::engine
