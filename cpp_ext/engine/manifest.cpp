#include "engine/manifest.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <set>
#include <vector>

#include "engine/json.hpp"
#include "shortlist/file_error.hpp"
#include "shortlist/storage.hpp"

namespace shortlist::engine {
namespace {

constexpr std::int64_t kFormatVersion = 1;
constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMostPlaces = 1 << 20;  // of a history, or of candidates
constexpr std::int64_t kMostWidth = 65'536;
constexpr std::string_view kDigits = "0123456789";
constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";

// A bare file name: no folder, no leading dot, ASCII, short.
bool is_plain_name(const std::string& name) {
  const auto is_in = [](std::string_view set, char c) { return set.find(c) != set.npos; };
  const auto is_inside = [&](char c) {
    return is_in(kDigits, c) || is_in(kLetters, c) || c == '.' || c == '-';
  };
  return !name.empty() && name.size() <= 128 && name[0] != '.' && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), is_inside) && name != kManifest;
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& where) : json_(where, text), where_(where) {}

  Manifest parse() {
    json_.object([this](const std::string& key) { read(key); });
    json_.finish();
    for (const char* key : {"format", "format_version", "files", "n_items", "dim", "max_history",
                            "metric", "storage", "item_id_dtype"}) {
      if (seen_.count(key) == 0) json_.throw_bad(std::string("a field '") + key + "'", "none");
    }
    return manifest_;
  }

 private:
  void read(const std::string& key) {
    seen_.insert(key);
    if (key == "format") {
      one_of(key, {"shortlist-bundle"});
    } else if (key == "format_version") {
      read_version();
    } else if (key == "files") {
      json_.object([this](const std::string& name) { read_file(name); });
    } else if (key == "n_items" || key == "dim") {
      (key == "dim" ? manifest_.dim : manifest_.n_items) = size(key, 1);
    } else if (key == "max_history") {
      keep_longest(size(key, 1, kMostPlaces));
    } else if (key == "second_stage") {
      read_second_stage();
    } else if (key == "recall") {
      const double recall = json_.real();
      if (!(recall >= 0 && recall <= 1)) json_.throw_bad("recall from 0 to 1", "another number");
    } else if (key == "event_features") {
      json_.object([this](const std::string& name) { read_event_feature(name); });
    } else if (key == "lineage") {
      read_version_of_bundle();
    } else if (key == "training") {
      read_training({"config", "events"}, 0);
    } else if (key == "n_users") {
      manifest_.n_users = size(key, 0);
    } else if (key == "user_id_dtype") {
      manifest_.user_id_dtype = one_of(key, {"int64", "string"});
    } else if (key == "features") {
      json_.list([this] { read_feature(); });
    } else if (key == "metric") {
      manifest_.metric = one_of(key, {"cosine", "dot", "euclidean"});
    } else if (key == "storage") {
      manifest_.storage = one_of(key, {std::begin(kStorageNames), std::end(kStorageNames)});
    } else if (key == "item_id_dtype") {
      manifest_.item_id_dtype = one_of(key, {"int64", "string"});
    } else {
      json_.skip();
    }
  }

  std::string one_of(const std::string& key, const std::vector<const char*>& allowed) {
    const std::string value = json_.string();
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return value;
    std::string names;
    for (const char* name : allowed) names += (names.empty() ? "" : ", ") + std::string(name);
    json_.throw_bad(key + " to be one of " + names, "'" + value.substr(0, 80) + "'");
  }

  void keep_longest(std::size_t n) { manifest_.max_history = std::max(manifest_.max_history, n); }

  void read_second_stage() {
    bool has_length = false;
    json_.object([&](const std::string& name) {
      const std::string what = name + " of the second stage";
      if (name == "n_candidates") {
        manifest_.n_candidates = size(what, 1, kMostPlaces);
      } else if (name == "history_length") {
        has_length = true;
        keep_longest(size(what, 1, kMostPlaces));
      } else {
        json_.skip();
      }
    });
    if (manifest_.n_candidates == 0)
      json_.throw_bad("a field 'n_candidates' of the second stage", "none");
    if (!has_length) json_.throw_bad("a field 'history_length' of the second stage", "none");
  }

  void read_feature() {
    std::string name, side, kind, unit = "s";
    double mean = 0, std = 1;
    std::int64_t n_vocabulary = 0, width = 0;
    json_.object([&](const std::string& key) {
      std::string* const wanted = key == "name"   ? &name
                                  : key == "side" ? &side
                                  : key == "kind" ? &kind
                                  : key == "unit" ? &unit
                                                  : nullptr;
      if (wanted != nullptr) {
        *wanted = json_.string();
      } else if (key == "mean" || key == "std") {
        (key == "mean" ? mean : std) = json_.real();
      } else if (key == "n_vocabulary") {
        n_vocabulary = json_.integer();
      } else if (key == "width" && (kind.empty() || kind == "vector")) {
        width = json_.integer();
      } else if (key == "vocabulary") {
        json_.list(
            [this] { json_.is_string() ? json_.skip() : static_cast<void>(json_.integer()); });
      } else {
        json_.skip();
      }
    });
    const std::string of = " of '" + name.substr(0, 80) + "'";
    check_finite("mean" + of, mean);
    check_finite("std" + of, std);
    check_range("n_vocabulary" + of, n_vocabulary, 0, kLargest);
    if (kind == "vector") check_range("width" + of, width, 1, kMostWidth);
    if (side != "user" || kind != "timestamp") return;
    manifest_.time_ticks[name] = unit == "us" ? 1'000'000 : unit == "ms" ? 1000 : 1;
  }

  void read_event_feature(const std::string& name) {
    json_.object([&](const std::string& key) {
      if (key != "gap") return json_.skip();
      const double gap = json_.real();
      check_finite("gap of " + name, gap);
      if (gap < 0) json_.throw_bad("gap of " + name + " >= 0", "a negative number");
      if (name == "history_ages") manifest_.usual_gap = gap;
    });
  }

  // Sections of the training within one another; they may be anything.
  void read_training(const std::vector<std::string>& path, std::size_t depth) {
    if (!json_.is_object()) return json_.skip();
    json_.object([&](const std::string& key) {
      if (depth < path.size() && key == path[depth]) {
        read_training(path, depth + 1);
      } else if (depth == path.size() && key == "negative_kinds" && json_.is_list()) {
        json_.list([this] {
          json_.is_string() ? static_cast<void>(manifest_.dislikes.insert(json_.string()))
                            : json_.skip();
        });
      } else {
        json_.skip();
      }
    });
  }

  // A version's own fields; `ancestors` are more of these.
  void read_version_of_bundle() {
    json_.object([this](const std::string& key) {
      if (key == "data") {
        json_.object([this](const std::string& name) { read_event_count(name); });
      } else if (key == "ancestors") {
        json_.list([this] { read_version_of_bundle(); });
      } else {
        json_.skip();
      }
    });
  }

  void read_event_count(const std::string& name) {
    const bool is_time = name == "first" || name == "until";
    if (name == "n_events") {
      size(name, 0);
    } else if (is_time && !json_.is_null()) {
      json_.integer();
    } else {
      json_.skip();
    }
  }

  void read_version() {
    const std::int64_t version = json_.integer();
    if (version == kFormatVersion) return;
    throw FileError(where_ + ": expected format_version " + std::to_string(kFormatVersion) +
                    ", found " + std::to_string(version) +
                    "; read it with the release that wrote it, or export the run again");
  }

  std::size_t size(const std::string& key, std::int64_t least, std::int64_t most = kLargest) {
    const std::int64_t value = json_.integer();
    check_range(key, value, least, most);
    return static_cast<std::size_t>(value);
  }

  void check_range(const std::string& what, std::int64_t value, std::int64_t least,
                   std::int64_t most) const {
    if (value < least) {
      json_.throw_bad(what + " >= " + std::to_string(least), std::to_string(value));
    }
    if (value > most) {
      json_.throw_bad(what + " <= " + std::to_string(most), std::to_string(value));
    }
  }

  void check_finite(const std::string& what, double value) const {
    if (!std::isfinite(value)) json_.throw_bad(what + " to be a finite number", "a larger one");
  }

  void read_file(const std::string& name) {
    if (!is_plain_name(name)) {
      json_.throw_bad("plain file names in 'files', without folders",
                      "'" + name.substr(0, 200) + "'");
    }
    FileRecord record;
    bool has_size = false;
    json_.object([&](const std::string& key) {
      if (key == "size") {
        has_size = true;
        record.size = size("size of " + name, 0);
      } else if (key == "sha256") {
        record.sha256 = json_.string();
      } else {
        json_.skip();
      }
    });
    if (!has_size) json_.throw_bad("a size of " + name, "none");
    if (!is_sha256(record.sha256)) {
      json_.throw_bad("sha256 of " + name + " to be 64 hex digits",
                      "'" + record.sha256.substr(0, 80) + "'");
    }
    manifest_.files.emplace(name, record);
  }

  JsonReader json_;
  const std::string& where_;
  std::set<std::string> seen_;
  Manifest manifest_;
};

}  // namespace

Manifest parse_manifest(std::string_view text, const std::string& where) {
  if (text.size() > kMaxManifestBytes) {
    throw FileError(where + ": expected at most " + std::to_string(kMaxManifestBytes) +
                    " bytes, found more");
  }
  return Parser(text, where).parse();
}

}  // namespace shortlist::engine
