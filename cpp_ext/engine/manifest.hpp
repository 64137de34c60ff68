// What the engine needs of a bundle's manifest.json (internal). The format is described, checked
// and written by python/shortlist. This reader refuses what Python's refuses in the JSON itself, in
// the fields below, and in every number that an engine of either language uses. What else only
// Python's engine needs is passed over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace shortlist::engine {

constexpr const char* kManifest = "manifest.json";
constexpr std::size_t kMaxManifestBytes = std::size_t{64} << 20;

struct FileRecord {
  std::uint64_t size = 0;
  std::string sha256;  // 64 hex digits
};

struct Manifest {
  std::map<std::string, FileRecord> files;
  std::size_t n_items = 0;
  std::size_t dim = 0;
  std::string metric;
  std::string storage;
  std::string item_id_dtype;  // "int64" or "string"
  std::string user_id_dtype;  // the same; "" = not said
  std::size_t n_users = 0;
  // Items of a history that the graph looks at, in its encoder or in its second stage.
  std::size_t max_history = 1;
  std::size_t n_candidates = 0;  // of the second stage; 0 = there is none
  // Units a second in which user features that are times are stored as numbers.
  std::map<std::string, std::int64_t> time_ticks;
  double usual_gap = 0;  // seconds between events whose times are not known
  // Kinds of events that the training took for dislikes; "skip" is one in any case.
  std::set<std::string, std::less<>> dislikes = {"skip"};

  bool is_dislike(std::string_view kind) const { return dislikes.count(kind) != 0; }
};

// Throws FileError, naming `where`, unless the text is such a manifest.
Manifest parse_manifest(std::string_view text, const std::string& where);

}  // namespace shortlist::engine
