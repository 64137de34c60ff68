#include "c_api/names.hpp"

#include <stdexcept>
#include <string>

namespace shortlist::c_api {

void check_rows(const IndexView& view, const std::int64_t* rows, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    if (rows[i] < 0 || static_cast<std::uint64_t>(rows[i]) < view.n_rows()) continue;
    throw std::invalid_argument("rows: got " + std::to_string(rows[i]) + " at position " +
                                std::to_string(i) + "; the index has " +
                                std::to_string(view.n_rows()) + " rows");
  }
}

void check_wanted_ids(const IndexView& view, const void* numbers, const void* texts) {
  const bool has_texts = view.id_kind() == ItemIds::Kind::string;
  if (has_texts && numbers != nullptr) {
    throw std::invalid_argument(
        "numbers: got an array; the ids of this index are text; ask for texts, with numbers NULL");
  }
  if (!has_texts && texts != nullptr) {
    throw std::invalid_argument(
        "texts: got an array; the ids of this index are int64; ask for numbers, with texts NULL");
  }
}

void write_ids(const IndexView& view, const std::int64_t* rows, std::size_t n,
               std::int64_t* numbers, shortlist_text* texts) {
  if (numbers != nullptr) view.ids_of(rows, n, numbers);
  for (std::size_t i = 0; texts != nullptr && i < n; ++i) {
    const std::string_view text = view.string_of(rows[i]);
    texts[i] = {text.data(), text.size()};
  }
}

}  // namespace shortlist::c_api
