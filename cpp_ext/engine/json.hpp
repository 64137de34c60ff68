// A reader of JSON text that builds nothing (internal): the caller walks through the text and says
// what it wants of it, so a hostile file costs no memory beyond its own bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace shortlist::engine {

class JsonReader {
 public:
  // `name` is what errors call the text, which the caller keeps. All functions throw FileError.
  JsonReader(std::string name, std::string_view text);

  // Reads the object that comes next: `member` gets each key, and reads or skips the value. A key
  // that comes twice is refused: which of the two counts is another matter for every reader.
  void object(const std::function<void(const std::string& key)>& member);
  // Reads the list that comes next: `entry` reads or skips each of its values.
  void list(const std::function<void()>& entry);
  std::string string();
  std::int64_t integer();
  // A number; one that is too large for a double is infinity.
  double real();
  // Whether text, an object, a list, or null comes next.
  bool is_string() { return peek() == '"'; }
  bool is_object() { return peek() == '{'; }
  bool is_list() { return peek() == '['; }
  bool is_null() { return peek() == 'n'; }
  // Passes over any value, nested at most kMaxDepth deep.
  void skip();
  // Nothing may come any more.
  void finish();

  [[noreturn]] void throw_bad(const std::string& expected, const std::string& found) const;

  static constexpr std::size_t kMaxDepth = 100;

 private:
  char peek();  // the next character that is no space; '\0' at the end
  bool take(char character);
  void expect(char character);
  void skip_number();
  void skip_digits();
  void skip_word();
  void enter();
  void escape(std::string* text);
  std::uint32_t hex();

  std::string name_;
  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t depth_ = 0;
};

}  // namespace shortlist::engine
