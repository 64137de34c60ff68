#include "engine/packed_events.hpp"

#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#include "engine/column_values.hpp"

namespace shortlist::engine {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 30;  // of a session
constexpr unsigned char kHasText = 1, kHasKind = 2, kHasTime = 4;
constexpr std::int64_t kMissing = std::numeric_limits<std::int64_t>::min();

// Seven bits a byte, the low ones first; small numbers of either sign are short.
void put_number(std::int64_t number, std::string* to) {
  auto bits = static_cast<std::uint64_t>(number);
  bits = (bits << 1) ^ (number < 0 ? ~std::uint64_t{0} : 0);
  for (; bits >= 128; bits >>= 7) to->push_back(static_cast<char>(bits | 128));
  to->push_back(static_cast<char>(bits));
}

std::int64_t take_number(std::string_view* from) {
  std::uint64_t bits = 0;
  for (unsigned shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(from->front());
    from->remove_prefix(1);
    bits |= std::uint64_t{byte & 127U} << shift;
    if (byte < 128) break;
  }
  return static_cast<std::int64_t>((bits >> 1) ^ (~(bits & 1) + 1));
}

void put_text(std::string_view text, std::string* to) {
  put_number(static_cast<std::int64_t>(text.size()), to);
  to->append(text);
}

std::string_view take_text(std::string_view* from) {
  const auto size = static_cast<std::size_t>(take_number(from));
  const std::string_view text = from->substr(0, size);
  from->remove_prefix(size);
  return text;
}

// The kinds of values: 't', 'f' or 'n'. All are missing: 0.
char kind_of(const shortlist_column& column, const Span& span) {
  bool is_there = false;
  for (std::size_t i = span.from; i < span.from + span.size; ++i) {
    is_there |= column.texts != nullptr    ? column.texts[i].size > 0
                : column.floats != nullptr ? !std::isnan(column.floats[i])
                                           : column.numbers[i] != kMissing;
  }
  if (!is_there) return 0;
  return column.texts != nullptr ? 't' : column.floats != nullptr ? 'f' : 'n';
}

}  // namespace

float seconds_between(std::int64_t from, std::int64_t to) {
  return static_cast<float>(std::max(0.0, static_cast<double>(to) - static_cast<double>(from)));
}

PackedBytes::~PackedBytes() {
  std::free(data_);
}

void PackedBytes::replace_from(std::size_t from, std::string_view bytes) {
  const std::size_t size = from + bytes.size();
  if (size > kMostBytes) {
    throw std::invalid_argument("session: got " + std::to_string(size) +
                                " bytes of events; expected at most " + std::to_string(kMostBytes) +
                                ": begin a new one");
  }
  if (size > capacity_ || size < capacity_ / 2) {
    const std::size_t room = size > size_ ? size + size / 8 : size;
    void* const data = std::realloc(data_, std::max<std::size_t>(room, 1));
    if (data == nullptr) throw std::bad_alloc();
    data_ = static_cast<char*>(data);
    capacity_ = static_cast<std::uint32_t>(malloc_usable_size(data_));
  }
  if (!bytes.empty()) std::memcpy(data_ + from, bytes.data(), bytes.size());
  size_ = static_cast<std::uint32_t>(size);
}

std::size_t PackedBytes::n_bytes() const {
  return block_size(data_);
}

std::size_t block_size(const void* block) {
  return block == nullptr ? 0 : malloc_usable_size(const_cast<void*>(block)) + sizeof(std::size_t);
}

void pack(const Event& event, std::string* to) {
  const unsigned flags = (event.item.text.empty() ? 0U : kHasText) |
                         (event.kind.empty() ? 0U : kHasKind) |
                         (event.time == kNoTime ? 0U : kHasTime);
  to->push_back(static_cast<char>(flags));
  if (event.item.text.empty()) {
    put_number(event.item.number, to);
  } else {
    put_text(event.item.text, to);
  }
  if (!event.kind.empty()) put_text(event.kind, to);
  if (event.time != kNoTime) put_number(event.time, to);
}

Event unpack(std::string_view* from) {
  const auto flags = static_cast<unsigned char>(from->front());
  from->remove_prefix(1);
  Event event;
  if ((flags & kHasText) != 0) {
    event.item.text = take_text(from);
  } else {
    event.item.number = take_number(from);
  }
  if ((flags & kHasKind) != 0) event.kind = take_text(from);
  if ((flags & kHasTime) != 0) event.time = take_number(from);
  return event;
}

void pack_columns(const shortlist_column* columns, std::size_t n_columns, std::string* to) {
  for (std::size_t i = 0; i < n_columns; ++i) {
    const shortlist_column& column = columns[i];
    const std::string_view name = column.name;
    if (name == "history" || name == "history_kinds" || name == "history_ages") continue;
    const Span span = span_of(column, 0);
    const char kind = kind_of(column, span);
    if (kind == 0) continue;
    put_text(name, to);
    to->push_back(kind);
    put_number(static_cast<std::int64_t>(span.size), to);
    for (std::size_t k = span.from; k < span.from + span.size; ++k) {
      if (kind == 't') {
        put_text(text_of(column, k), to);
      } else if (kind == 'f') {
        to->append(reinterpret_cast<const char*>(column.floats + k), sizeof(float));
      } else {
        put_number(column.numbers[k], to);
      }
    }
  }
}

UnpackedColumns::UnpackedColumns(std::string_view from) {
  while (!from.empty()) {
    shortlist_column column{};
    column.name = names_.emplace_back(take_text(&from)).c_str();
    const char kind = from.front();
    from.remove_prefix(1);
    column.width = static_cast<std::size_t>(take_number(&from));
    if (kind == 't') {
      auto& texts = texts_.emplace_back(column.width);
      for (shortlist_text& one : texts) {
        const std::string_view text = take_text(&from);
        one = {text.data(), text.size()};
      }
      column.texts = texts.data();
    } else if (kind == 'f') {
      auto& floats = floats_.emplace_back(column.width);
      std::memcpy(floats.data(), from.data(), column.width * sizeof(float));
      from.remove_prefix(column.width * sizeof(float));
      column.floats = floats.data();
    } else {
      auto& numbers = numbers_.emplace_back(column.width);
      for (std::int64_t& one : numbers) one = take_number(&from);
      column.numbers = numbers.data();
    }
    columns_.push_back(column);
  }
}

}  // namespace shortlist::engine
