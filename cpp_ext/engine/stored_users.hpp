// Users of a bundle: their histories and features by user id, from users.arrow (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/arrow_file.hpp"
#include "engine/columns.hpp"
#include "engine/manifest.hpp"

namespace shortlist::engine {

class [[gnu::visibility("default")]] StoredUsers {
 public:
  // Maps the file and checks it against the manifest and the inputs of the graph; `name` is what
  // errors call it. Throws FileError. `inputs` are the caller's and outlive this.
  StoredUsers(const std::string& path, const std::string& name, const Manifest& manifest,
              const std::vector<Input>& inputs);

  // -1 where unknown.
  std::int64_t row_of(std::int64_t id) const;
  std::int64_t row_of(std::string_view id) const;

  // Entries of the user's history are first .. last - 1 of items(), oldest first.
  std::size_t first_of(std::int64_t user) const;
  std::size_t last_of(std::int64_t user) const;
  const ArrowColumn& items() const { return history_->values(); }
  bool has_kinds() const { return kinds_ != nullptr; }
  bool has_times() const { return times_ != nullptr; }
  std::string_view kind_at(std::size_t entry) const { return kinds_->values().text_at(entry); }
  std::int64_t time_at(std::size_t entry) const { return times_->values().integer_at(entry); }

  // Appends the user's value of an input that is no history: missing where nothing is stored.
  void add_numbers(const Input& input, std::int64_t user, std::vector<std::int64_t>* to) const;
  void add_floats(const Input& input, std::int64_t user, std::vector<float>* to) const;
  void add_texts(const Input& input, std::int64_t user, std::vector<shortlist_text>* to) const;

  // Empty, or why no stored user can be answered.
  const std::string& problem() const { return problem_; }

 private:
  const ArrowColumn* require(const std::string& name, ArrowColumn::Kind kind,
                             ArrowColumn::Kind values) const;
  void check_ids(bool has_texts);
  void check_events(bool has_kinds, bool has_times);
  void check_features(const Manifest& manifest, const std::vector<Input>& inputs);
  std::int64_t whole(const ArrowColumn& column, std::size_t row, std::int64_t ticks) const;
  const ArrowColumn* column_of(const Input& input, std::int64_t user) const;

  std::string name_;
  std::shared_ptr<const void> mapping_;
  std::vector<ArrowColumn> columns_;
  const ArrowColumn* ids_ = nullptr;
  const ArrowColumn* history_ = nullptr;
  const ArrowColumn* kinds_ = nullptr;
  const ArrowColumn* times_ = nullptr;
  std::vector<std::int64_t> order_;  // rows by ascending text id
  std::map<std::string, const ArrowColumn*, std::less<>> features_;
  std::map<std::string, std::int64_t, std::less<>> ticks_;  // of times that are whole numbers
  std::string problem_;
};

}  // namespace shortlist::engine
