// A bundle folder, checked file by file before anything in it is believed (internal).
#pragma once

#include <functional>
#include <string>

#include "engine/descriptor.hpp"
#include "engine/manifest.hpp"

namespace shortlist::engine {

struct BundleFolder {
  std::string path;  // absolute, without links
  std::string name;  // the last part of it, for messages
  Manifest manifest;
  Descriptor folder;  // held: its item encoder opens late

  // The path of a file of this very folder, even if another has been put in its place since; of
  // whatever stands there where the system has no /proc. @pre folder is open
  std::string file(const std::string& file_name) const;
  // Throws FileError: the manifest has no such file.
  [[noreturn]] void throw_no_entry(const std::string& file_name) const;
};

// Opens a folder: plain files only, those of the manifest and no others, of the sizes it says, and
// with check_hashes of its sha256. A link to the folder is followed, links inside are refused. A
// zip is refused: unpack it. `name` is how messages call it, "" = as the folder is called. Throws
// FileError that names file, expected and found. `between_blocks`: see hash_file.
[[gnu::visibility("default")]] BundleFolder open_bundle(
    const std::string& path, bool check_hashes, const std::string& name = "",
    const std::function<void()>& between_blocks = {});

// The header of items.index must say what the manifest says, as load_index of Python asks too.
// Throws FileError. @pre the folder is open
void check_index(const BundleFolder& bundle);

}  // namespace shortlist::engine
