#include "engine/json.hpp"

#include <charconv>
#include <cmath>
#include <limits>
#include <locale>
#include <set>
#include <sstream>
#include <utility>

#include "shortlist/file_error.hpp"
#include "src/system/utf8.hpp"

namespace shortlist::engine {
namespace {

bool is_digit(char character) {
  return character >= '0' && character <= '9';
}

void append_utf8(std::string* text, std::uint32_t code) {
  const auto put = [text](std::uint32_t byte) { text->push_back(static_cast<char>(byte)); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | (code >> 6));
  } else {
    if (code < 0x10000) {
      put(0xE0 | (code >> 12));
    } else {
      put(0xF0 | (code >> 18));
      put(0x80 | ((code >> 12) & 0x3F));
    }
    put(0x80 | ((code >> 6) & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

}  // namespace

JsonReader::JsonReader(std::string name, std::string_view text)
    : name_(std::move(name)), text_(text) {
  if (!is_utf8(text)) throw FileError(name_ + ": expected UTF-8, found other bytes");
}

void JsonReader::throw_bad(const std::string& expected, const std::string& found) const {
  throw FileError(name_ + ": expected " + expected + ", found " + found + " at byte " +
                  std::to_string(at_) + "; the file is damaged: write the bundle again");
}

char JsonReader::peek() {
  constexpr std::string_view kSpaces = " \t\r\n";
  while (at_ < text_.size() && kSpaces.find(text_[at_]) != std::string_view::npos) ++at_;
  return at_ < text_.size() ? text_[at_] : '\0';
}

bool JsonReader::take(char character) {
  if (peek() != character || at_ == text_.size()) return false;
  ++at_;
  return true;
}

void JsonReader::expect(char character) {
  if (!take(character)) throw_bad(std::string("'") + character + "'", "something else");
}

void JsonReader::enter() {
  if (++depth_ > kMaxDepth) throw_bad("at most 100 levels of lists and objects", "more");
}

void JsonReader::object(const std::function<void(const std::string& key)>& member) {
  enter();
  expect('{');
  if (!take('}')) {
    std::set<std::string> seen;
    do {
      if (peek() != '"') throw_bad("a name in quotes", "something else");
      const std::string key = string();
      if (!seen.insert(key).second) {
        throw_bad("each field once", "'" + key.substr(0, 80) + "' again");
      }
      expect(':');
      member(key);
    } while (take(','));
    expect('}');
  }
  --depth_;
}

void JsonReader::list(const std::function<void()>& entry) {
  enter();
  expect('[');
  if (!take(']')) {
    do entry();
    while (take(','));
    expect(']');
  }
  --depth_;
}

std::string JsonReader::string() {
  expect('"');
  std::string text;
  while (at_ < text_.size()) {
    const char character = text_[at_++];
    if (character == '"') return text;
    if (static_cast<unsigned char>(character) < 0x20) break;
    if (character == '\\') {
      escape(&text);
    } else {
      text.push_back(character);
    }
  }
  throw_bad("the end of a text", "none");
}

std::uint32_t JsonReader::hex() {
  std::uint32_t code = 0;
  if (text_.size() - at_ < 4) throw_bad("four hex digits", "the end");
  const char* const begin = text_.data() + at_;
  const auto [end, error] = std::from_chars(begin, begin + 4, code, 16);
  if (error != std::errc() || end != begin + 4) throw_bad("four hex digits", "others");
  at_ += 4;
  return code;
}

void JsonReader::escape(std::string* text) {
  constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
  const char name = at_ < text_.size() ? text_[at_++] : '\0';
  if (const std::size_t i = kNames.find(name); i != std::string_view::npos) {
    text->push_back(kMeanings[i]);
    return;
  }
  if (name != 'u') throw_bad("an escape of JSON", "another");
  std::uint32_t code = hex();
  if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
    at_ += 2;
    const std::uint32_t low = hex();
    if (low < 0xDC00 || low > 0xDFFF) throw_bad("the second half of a character", "another");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  if (code >= 0xD800 && code < 0xE000) throw_bad("a whole character", "half of one");
  append_utf8(text, code);
}

std::int64_t JsonReader::integer() {
  peek();
  const char* const begin = text_.data() + at_;
  std::int64_t number = 0;
  const std::size_t start = at_;
  skip_number();
  const char* const stop = text_.data() + at_;
  const auto [end, error] = std::from_chars(begin, stop, number);
  if (error == std::errc() && end == stop) return number;
  at_ = start;
  throw_bad("a whole number of 64 bits", "another number");
}

double JsonReader::real() {
  peek();
  const std::size_t start = at_;
  skip_number();
  // Not std::from_chars, which older libraries have for whole numbers only.
  std::istringstream number(std::string(text_.substr(start, at_ - start)));
  number.imbue(std::locale::classic());
  double value = 0;
  if (number >> value) return value;
  return std::copysign(std::numeric_limits<double>::infinity(), value);
}

void JsonReader::skip_digits() {
  const std::size_t start = at_;
  while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
  if (at_ == start) throw_bad("a value", "something else");
}

void JsonReader::skip_number() {
  if (at_ < text_.size() && text_[at_] == '-') ++at_;
  const std::size_t start = at_;
  skip_digits();
  if (text_[start] == '0' && at_ - start > 1) throw_bad("a number", "one with leading zeros");
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    skip_digits();
  }
  if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
    ++at_;
    if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
    skip_digits();
  }
}

void JsonReader::skip_word() {
  for (const std::string_view word : {"true", "false", "null"}) {
    if (text_.substr(at_, word.size()) != word) continue;
    at_ += word.size();
    return;
  }
  skip_number();
}

void JsonReader::skip() {
  switch (peek()) {
    case '{':
      return object([this](const std::string&) { skip(); });
    case '[':
      return list([this] { skip(); });
    case '"':
      string();
      return;
    default:
      return skip_word();
  }
}

void JsonReader::finish() {
  peek();
  if (at_ < text_.size()) throw_bad("the end of the file", "more");
}

}  // namespace shortlist::engine
