// FlatBuffers as far as Arrow files need them (internal): tables, vectors and structs in bytes that
// may be hostile. Every read is checked against the end of the bytes. The layout is that of
// https://flatbuffers.dev/internals, little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "shortlist/file_error.hpp"

namespace shortlist::engine {

// Bytes that the caller keeps. Reads beyond their end throw FileError.
class Bytes {
 public:
  Bytes(const std::string& name, const unsigned char* data, std::size_t size)
      : name_(&name), data_(data), size_(size) {}

  std::size_t size() const { return size_; }
  const std::string& name() const { return *name_; }
  Bytes part(std::uint64_t from, std::uint64_t size) const {
    if (from > size_ || size > size_ - from) throw_cut();
    return {*name_, data_ + from, static_cast<std::size_t>(size)};
  }
  const unsigned char* data() const { return data_; }

  template <class T>
  T read(std::uint64_t at) const {
    if (at > size_ || sizeof(T) > size_ - at) throw_cut();
    T value;
    std::memcpy(&value, data_ + at, sizeof value);
    return value;
  }

  [[noreturn]] void throw_cut() const {
    throw FileError(*name_ +
                    ": expected an Arrow IPC file, found one whose parts are not where "
                    "it says; write the bundle again");
  }

 private:
  const std::string* name_;
  const unsigned char* data_;
  std::size_t size_;
};

class FlatVector {
 public:
  FlatVector() = default;
  // `element` bytes each. @pre a vector, or nothing, is at `at`
  FlatVector(const Bytes& bytes, std::uint64_t at, std::size_t element)
      : at_(at + 4), n_(bytes.read<std::uint32_t>(at)) {
    bytes.part(at_, std::uint64_t{n_} * element);
  }
  std::size_t size() const { return n_; }
  std::uint64_t at() const { return at_; }

 private:
  std::uint64_t at_ = 0;
  std::uint32_t n_ = 0;
};

class FlatTable {
 public:
  FlatTable(const Bytes& bytes, std::uint64_t at) : bytes_(bytes), at_(at) {
    const std::int64_t fields = static_cast<std::int64_t>(at) - bytes.read<std::int32_t>(at);
    if (fields < 0) bytes.throw_cut();
    fields_ = static_cast<std::uint64_t>(fields);
    n_bytes_ = bytes.read<std::uint16_t>(fields_);
  }
  static FlatTable root(const Bytes& bytes) { return {bytes, bytes.read<std::uint32_t>(0)}; }

  bool has(std::size_t field) const { return offset_of(field) != 0; }
  template <class T>
  T number(std::size_t field, T otherwise) const {
    return has(field) ? bytes_.read<T>(offset_of(field)) : otherwise;
  }
  // @pre has(field)
  FlatTable table(std::size_t field) const { return {bytes_, target(offset_of(field))}; }
  // Empty if it is left out.
  FlatVector vector(std::size_t field, std::size_t element) const {
    return has(field) ? FlatVector(bytes_, target(offset_of(field)), element) : FlatVector();
  }
  // Table number i of a vector of tables. @pre i < vector.size()
  FlatTable entry(const FlatVector& vector, std::size_t i) const {
    return {bytes_, target(vector.at() + 4 * i)};
  }
  std::string text(std::size_t field) const {
    const FlatVector letters = vector(field, 1);
    const Bytes part = bytes_.part(letters.at(), letters.size());
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

 private:
  // Where a field is; 0 = left out.
  std::uint64_t offset_of(std::size_t field) const {
    const std::size_t entry = 4 + 2 * field;
    if (entry + 2 > n_bytes_) return 0;
    const std::uint16_t offset = bytes_.read<std::uint16_t>(fields_ + entry);
    return offset == 0 ? 0 : at_ + offset;
  }
  std::uint64_t target(std::uint64_t at) const { return at + bytes_.read<std::uint32_t>(at); }

  Bytes bytes_;
  std::uint64_t at_;
  std::uint64_t fields_ = 0;
  std::size_t n_bytes_ = 0;
};

}  // namespace shortlist::engine
