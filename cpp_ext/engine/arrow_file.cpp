// The format: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format; numbers of fields
// and types are those of its Schema.fbs, Message.fbs and File.fbs.
#include "engine/arrow_file.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace shortlist::engine {
namespace {

constexpr std::string_view kMagic = "ARROW1";
constexpr std::size_t kMaxDepth = 4;
constexpr std::size_t kBlockBytes = 24, kNodeBytes = 16, kBufferBytes = 16;
// Numbers of Type in Schema.fbs.
enum Type : std::uint8_t {
  kNull = 1,
  kInt = 2,
  kFloat = 3,
  kText = 5,
  kBool = 6,
  kDate = 8,
  kTimestamp = 10,
  kList = 12
};

[[noreturn]] void throw_bad(const Bytes& file, const std::string& expected,
                            const std::string& found) {
  throw FileError(file.name() + ": expected " + expected + ", found " + found);
}

template <class T>
T load(const unsigned char* data, std::size_t i) {
  T value;
  std::memcpy(&value, data + i * sizeof value, sizeof value);
  return value;
}

// Walks through the nodes and buffers of a record batch, in the order of the schema's fields.
class Batch {
 public:
  Batch(const Bytes& file, const FlatTable& message, const Bytes& head, const Bytes& body)
      : file_(file), head_(head), body_(body), batch_(message.table(2)) {
    if (batch_.has(3)) throw_bad(file, "a table that is not compressed", "compression");
    n_rows_ = batch_.number<std::int64_t>(0, 0);
    nodes_ = batch_.vector(1, kNodeBytes);
    buffers_ = batch_.vector(2, kBufferBytes);
  }

  ArrowColumn column(const FlatTable& field, std::size_t depth) {
    if (depth > kMaxDepth || field.has(4)) {
      throw_bad(file_, "plain columns and lists", "a nested or dictionary-encoded one");
    }
    ArrowColumn column;
    column.name = field.text(0);
    if (next_node_ >= nodes_.size()) file_.throw_cut();
    const std::uint64_t node = nodes_.at() + kNodeBytes * next_node_++;
    const auto n = head_.read<std::int64_t>(node);
    if (n < 0 || (depth == 0 && n != n_rows_)) file_.throw_cut();
    column.n = static_cast<std::size_t>(n);
    const bool has_nulls = head_.read<std::int64_t>(node + 8) != 0;
    const auto type = field.number<std::uint8_t>(2, 0);
    if (!field.has(3)) file_.throw_cut();
    if (type == kNull) {
      column.kind = ArrowColumn::Kind::none;
      return column;
    }
    const Bytes given = buffer();
    if (has_nulls) column.given = sized(given, (column.n + 7) / 8);
    read_values(type, field, depth, &column);
    return column;
  }

 private:
  Bytes buffer() {
    if (next_buffer_ >= buffers_.size()) file_.throw_cut();
    const std::uint64_t at = buffers_.at() + kBufferBytes * next_buffer_++;
    const auto from = head_.read<std::int64_t>(at), size = head_.read<std::int64_t>(at + 8);
    if (from < 0 || size < 0) file_.throw_cut();
    return body_.part(static_cast<std::uint64_t>(from), static_cast<std::uint64_t>(size));
  }

  const unsigned char* sized(const Bytes& bytes, std::size_t least) const {
    if (bytes.size() < least) file_.throw_cut();
    return bytes.data();
  }

  const unsigned char* numbers(std::size_t n, std::size_t n_bits) {
    if (n > std::numeric_limits<std::size_t>::max() / 64) file_.throw_cut();
    return sized(buffer(), (n * n_bits + 7) / 8);
  }

  // Offsets that ascend from 0 or more to at most `end`.
  void check_offsets(const ArrowColumn& column, std::size_t end) const {
    std::int32_t last = 0;
    for (std::size_t i = 0; column.offsets != nullptr && i <= column.n; ++i) {
      const auto offset = load<std::int32_t>(column.offsets, i);
      if (offset < last || static_cast<std::size_t>(offset) > end) file_.throw_cut();
      last = offset;
    }
  }

  // A column of no rows may have no offsets at all.
  const unsigned char* offsets(std::size_t n) {
    const Bytes found = buffer();
    if (n == 0 && found.size() < 4) return nullptr;
    if (n > std::numeric_limits<std::size_t>::max() / 64) file_.throw_cut();
    return sized(found, (n + 1) * sizeof(std::int32_t));
  }

  void read_values(std::uint8_t type, const FlatTable& field, std::size_t depth,
                   ArrowColumn* column) {
    using Kind = ArrowColumn::Kind;
    const FlatTable about = field.table(3);
    if (type == kInt || type == kFloat) {
      const auto precision = about.number<std::int16_t>(0, 0);
      const std::int32_t n_bits = type == kInt     ? about.number<std::int32_t>(0, 0)
                                  : precision == 2 ? 64
                                                   : 32;
      const bool is_known = type == kInt
                                ? n_bits == 8 || n_bits == 16 || n_bits == 32 || n_bits == 64
                                : precision == 1 || precision == 2;
      if (!is_known) throw_bad(file_, "numbers of 8 to 64 bits", "others in " + column->name);
      column->kind = type == kInt ? Kind::integer : Kind::real;
      column->n_bits = static_cast<std::size_t>(n_bits);
      column->is_signed = type == kFloat || about.number<std::uint8_t>(1, 0) != 0;
      column->data = numbers(column->n, column->n_bits);
    } else if (type == kBool) {
      column->kind = Kind::boolean;
      column->data = numbers(column->n, 1);
    } else if (type == kDate || type == kTimestamp) {
      constexpr std::int64_t kTicks[] = {1, 1000, 1'000'000, 1'000'000'000};
      const auto unit = about.number<std::int16_t>(0, type == kDate ? 1 : 0);
      if (unit < 0 || unit > (type == kDate ? 1 : 3)) file_.throw_cut();
      const bool are_days = type == kDate && unit == 0;
      column->kind = are_days ? Kind::days : Kind::timestamp;
      column->ticks = are_days ? 1 : kTicks[unit];
      column->n_bits = are_days ? 32 : 64;
      column->data = numbers(column->n, column->n_bits);
    } else if (type == kText) {
      column->kind = Kind::text;
      column->offsets = offsets(column->n);
      const Bytes letters = buffer();
      column->data = letters.data();
      check_offsets(*column, letters.size());
    } else if (type == kList) {
      read_list(field, depth, column);
    } else {
      throw_bad(file_, "columns of numbers, truth values, times, text or lists",
                "another kind of column in " + column->name + "; export the run again");
    }
  }

  void read_list(const FlatTable& field, std::size_t depth, ArrowColumn* column) {
    column->kind = ArrowColumn::Kind::list;
    column->offsets = offsets(column->n);
    const FlatVector children = field.vector(5, 4);
    if (children.size() != 1) file_.throw_cut();
    column->children.push_back(this->column(field.entry(children, 0), depth + 1));
    check_offsets(*column, column->values().n);
  }

  const Bytes& file_;
  const Bytes& head_;
  const Bytes& body_;
  FlatTable batch_;
  std::int64_t n_rows_ = 0;
  FlatVector nodes_, buffers_;
  std::size_t next_node_ = 0, next_buffer_ = 0;
};

}  // namespace

bool ArrowColumn::is_given(std::size_t i) const {
  return kind != Kind::none && (given == nullptr || ((given[i / 8] >> (i % 8)) & 1) != 0);
}

std::int64_t ArrowColumn::integer_at(std::size_t i) const {
  if (kind == Kind::boolean) return (data[i / 8] >> (i % 8)) & 1;
  switch (n_bits) {
    case 8:
      return is_signed ? load<std::int8_t>(data, i) : load<std::uint8_t>(data, i);
    case 16:
      return is_signed ? load<std::int16_t>(data, i) : load<std::uint16_t>(data, i);
    case 32:
      return is_signed ? load<std::int32_t>(data, i)
                       : static_cast<std::int64_t>(load<std::uint32_t>(data, i));
    default:
      return load<std::int64_t>(data, i);
  }
}

double ArrowColumn::real_at(std::size_t i) const {
  if (kind == Kind::integer) return static_cast<double>(integer_at(i));
  return n_bits == 32 ? static_cast<double>(load<float>(data, i)) : load<double>(data, i);
}

std::size_t ArrowColumn::begin(std::size_t i) const {
  return offsets == nullptr ? 0 : static_cast<std::size_t>(load<std::int32_t>(offsets, i));
}

std::string_view ArrowColumn::text_at(std::size_t i) const {
  const std::size_t from = begin(i);
  return {reinterpret_cast<const char*>(data) + from, begin(i + 1) - from};
}

std::vector<ArrowColumn> read_arrow(const Bytes& file) {
  const std::size_t size = file.size(), tail = sizeof(std::int32_t) + kMagic.size();
  if (size < 8 + tail || std::memcmp(file.data(), kMagic.data(), kMagic.size()) != 0 ||
      std::memcmp(file.data() + size - kMagic.size(), kMagic.data(), kMagic.size()) != 0) {
    throw_bad(file, "an Arrow IPC file", "other bytes");
  }
  const auto n_footer = file.read<std::uint32_t>(size - tail);
  if (n_footer > size - tail) file.throw_cut();
  const Bytes end = file.part(size - tail - n_footer, n_footer);
  const FlatTable footer = FlatTable::root(end);
  const FlatVector batches = footer.vector(3, kBlockBytes);
  if (!footer.has(1)) file.throw_cut();
  const FlatTable schema = footer.table(1);
  if (schema.number<std::int16_t>(0, 0) != 0) throw_bad(file, "little-endian numbers", "others");
  if (batches.size() == 0) return {};
  if (batches.size() > 1) throw_bad(file, "one record batch", std::to_string(batches.size()));
  const auto from = end.read<std::uint64_t>(batches.at());
  const auto n_head = end.read<std::uint32_t>(batches.at() + 8);
  const auto n_body = end.read<std::uint64_t>(batches.at() + 16);
  const Bytes block = file.part(from, n_head);
  // Before the message: −1 as a mark, and its size, which the block has too.
  const Bytes head = block.part(8, n_head < 8 ? n_head : n_head - 8);
  if (n_body > size || from > size - n_body) file.throw_cut();
  const Bytes body = file.part(from + n_head, n_body);
  const FlatTable message = FlatTable::root(head);
  if (message.number<std::uint8_t>(1, 0) != 3 || !message.has(2)) file.throw_cut();
  Batch batch(file, message, head, body);
  const FlatVector fields = schema.vector(1, 4);
  std::vector<ArrowColumn> columns;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    columns.push_back(batch.column(schema.entry(fields, i), 0));
  }
  return columns;
}

}  // namespace shortlist::engine
