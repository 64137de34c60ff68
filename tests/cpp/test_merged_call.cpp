// Single requests put together are what one call of all of them would be.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/merged_call.hpp"

using namespace shortlist::engine;

namespace {

constexpr std::int64_t kMissing = std::numeric_limits<std::int64_t>::min();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
int n_errors = 0;

void expect(bool is_true, const std::string& promise) {
  if (is_true) return;
  ++n_errors;
  std::fprintf(stderr, "broken: %s\n", promise.c_str());
}

constexpr auto kInt = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
constexpr auto kFloats = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto kTexts = ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;

const std::vector<Input> kInputs = {
    {"history", kInt, {-1, -1}},
    {"history_kinds", kTexts, {-1, -1}},
    {"history_ages", kFloats, {-1, -1}},
    {"city", kTexts, {-1}},
    {"tags", kTexts, {-1, -1}},
    {"level", kInt, {-1}},
    {"age", kFloats, {-1}},
    {"style", kFloats, {-1, 3}},
    {"never", kInt, {-1}},
};

// One request, kept as the columns of a call with it alone.
struct Request {
  std::optional<std::vector<std::int64_t>> history;
  std::optional<std::vector<std::string>> kinds;
  std::optional<std::vector<float>> ages;
  std::optional<std::string> city;
  std::optional<std::vector<std::string>> tags;
  std::optional<std::int64_t> level;
  std::optional<float> age;
  std::optional<std::vector<float>> style;
  bool has_width = false;  // lists are given by their width, not by splits
  std::int64_t user_row = -1;
  std::optional<std::vector<std::int64_t>> skipped;
  std::optional<bool> is_joined;
};

// The call of one request, with all that it borrows.
class Single {
 public:
  explicit Single(const Request& given) : request_(given) {
    if (request_.history)
      list("history", request_.history->size()).numbers = request_.history->data();
    if (request_.kinds)
      list("history_kinds", request_.kinds->size()).texts = texts(*request_.kinds);
    if (request_.ages) list("history_ages", request_.ages->size()).floats = request_.ages->data();
    if (request_.city) value("city").texts = texts({*request_.city});
    if (request_.tags) list("tags", request_.tags->size()).texts = texts(*request_.tags);
    if (request_.level) value("level").numbers = &*request_.level;
    if (request_.age) value("age").floats = &*request_.age;
    if (request_.style) {
      shortlist_column& column = value("style");
      column.floats = request_.style->data();
      column.width = 3;
    }
    call_.n_requests = 1;
    call_.top_n = 2;
    call_.columns = columns_.data();
    call_.n_columns = columns_.size();
    if (request_.skipped) {
      call_.skipped = {request_.skipped->data(), splits_of(request_.skipped->size())};
    }
    if (request_.is_joined) {
      is_joined_ = *request_.is_joined ? 1 : 0;
      call_.is_joined = &is_joined_;
    }
    bound_ = bind_columns(kInputs, call_.columns, call_.n_columns, 1);
    request = {&call_, nullptr, &bound_, request_.user_row, &answer_};
  }
  Single(const Single&) = delete;
  Single& operator=(const Single&) = delete;

  SingleRequest request;
  float scores[2] = {};
  std::int64_t rows[2] = {}, count = 0, source = 0;
  std::int8_t stages = 0;

 private:
  shortlist_column& value(const char* name) {
    columns_.reserve(kInputs.size());
    columns_.push_back({});
    columns_.back().name = name;
    return columns_.back();
  }
  shortlist_column& list(const char* name, std::size_t n) {
    shortlist_column& column = value(name);
    if (request_.has_width) {
      column.width = n;
    } else {
      column.splits = splits_of(n);
    }
    return column;
  }
  const std::int64_t* splits_of(std::size_t n) {
    return splits_.emplace_back(std::vector<std::int64_t>{0, static_cast<std::int64_t>(n)}).data();
  }
  const shortlist_text* texts(const std::vector<std::string>& words) {
    std::vector<shortlist_text> found;
    for (const std::string& word : words) {
      const std::string& kept = words_.emplace_back(word);
      found.push_back({kept.data(), kept.size()});
    }
    return texts_.emplace_back(std::move(found)).data();
  }

  Request request_;
  std::deque<std::string> words_;
  std::deque<std::vector<shortlist_text>> texts_;
  std::deque<std::vector<std::int64_t>> splits_;
  std::vector<shortlist_column> columns_;
  std::vector<BoundColumn> bound_;
  unsigned char is_joined_ = 0;
  Call call_;
  AnswerView answer_{scores, rows, &count, &source, &stages};
};

// Values of one request in a bound column, as text.
std::string values_of(const BoundColumn& column, std::size_t request) {
  if (column.given == nullptr) return "none";
  const auto [from, size] = span_of(*column.given, request);
  std::string text;
  for (std::size_t i = from; i < from + size; ++i) {
    if (column.input->type == kTexts) {
      const shortlist_text& word = column.given->texts[i];
      text += word.size == 0 ? "''" : std::string(word.data, word.size);
    } else if (column.input->type == kFloats) {
      text += std::to_string(column.given->floats[i]);
    } else {
      const std::int64_t number = column.given->numbers[i];
      text += number == kMissing ? "?" : std::to_string(number);
    }
    text += ' ';
  }
  return text;
}

std::vector<Request> different_requests() {
  std::vector<Request> requests(7);
  requests[0].history = {{1, 2, 3}};
  requests[0].city = "Köln";
  requests[0].kinds = {{"buy", "", "click"}};
  requests[1].tags = {{"a", "b"}};
  requests[1].user_row = 4;
  requests[2].history = {{7}};  // kinds and ages of an item of which neither is told
  requests[2].age = 33.0F;
  requests[2].skipped = {{5, 6}};
  requests[2].is_joined = true;
  requests[3].history.emplace();
  requests[3].level = 2;
  requests[3].tags.emplace();
  requests[4].history = {{8, 9}};
  requests[4].ages = {{kNaN, 60.0F}};
  requests[4].kinds = {{"x", "y"}};
  requests[4].has_width = true;
  requests[4].style = {{1.0F, 2.0F, 3.0F}};
  requests[6].skipped.emplace();
  requests[6].is_joined = false;
  return requests;
}

using Requests = std::vector<const SingleRequest*>;

void columns_are_those_of_one_call() {
  std::deque<Single> singles;
  Requests requests;
  for (const Request& request : different_requests()) {
    requests.push_back(&singles.emplace_back(request).request);
  }
  const MergedCall merged(requests);
  const std::string nan = std::to_string(kNaN) + ' ';
  const std::map<std::string, std::vector<std::string>> expected = {
      {"history", {"1 2 3 ", "", "7 ", "", "8 9 ", "", ""}},
      {"history_kinds", {"buy '' click ", "", "'' ", "", "x y ", "", ""}},
      {"history_ages", {nan + nan + nan, "", nan, "", nan + "60.000000 ", "", ""}},
      {"city", {"Köln ", "'' ", "'' ", "'' ", "'' ", "'' ", "'' "}},
      {"tags", {"", "a b ", "", "", "", "", ""}},
      {"level", {"? ", "? ", "? ", "2 ", "? ", "? ", "? "}},
      {"age", {nan, nan, "33.000000 ", nan, nan, nan, nan}},
      {"style",
       {nan + nan + nan, nan + nan + nan, nan + nan + nan, nan + nan + nan,
        "1.000000 2.000000 3.000000 ", nan + nan + nan, nan + nan + nan}},
      {"never", std::vector<std::string>(7, "none")},
  };
  expect(merged.bound().size() == kInputs.size(), "every input is there");
  std::vector<shortlist_column> columns;
  for (const BoundColumn& column : merged.bound()) {
    if (column.given != nullptr) columns.push_back(*column.given);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const std::string found = values_of(column, i), &wanted = expected.at(column.input->name)[i];
      expect(found == wanted, column.input->name + ": " + found + "for " + wanted);
    }
  }
  for (shortlist_column& column : columns) {  // a caller gives one kind of values
    const auto type = std::find_if(kInputs.begin(), kInputs.end(), [&column](const Input& input) {
                        return input.name == column.name;
                      })->type;
    if (type != kInt) column.numbers = nullptr;
    if (type != kFloats) column.floats = nullptr;
    if (type != kTexts) column.texts = nullptr;
  }
  bind_columns(kInputs, columns.data(), columns.size(), requests.size());  // which checks them
  expect(merged.call().n_requests == 7 && merged.call().top_n == 2, "the call is one of all");
  expect(merged.user_rows() == std::vector<std::int64_t>{-1, 4, -1, -1, -1, -1, -1}, "users");
}

void skips_and_joined_histories_stay_with_their_requests() {
  std::deque<Single> singles;
  Requests requests;
  for (const Request& request : different_requests()) {
    requests.push_back(&singles.emplace_back(request).request);
  }
  const MergedCall merged(requests);
  const auto& [values, splits] = merged.call().skipped;
  expect(std::vector<std::int64_t>(splits, splits + 8) ==
             std::vector<std::int64_t>{0, 0, 0, 2, 2, 2, 2, 2},
         "skipped items are where they were");
  expect(values[0] == 5 && values[1] == 6, "the same items");
  const unsigned char* const joined = merged.call().is_joined;
  expect(joined[2] == 1 && std::count(joined, joined + 7, 1) == 1, "joined histories");
  const Requests plain = {requests[0], requests[1]};
  const MergedCall without(plain);
  expect(without.call().skipped.splits == nullptr && without.call().is_joined == nullptr,
         "nothing where there is nothing");
}

void each_request_gets_its_part_of_the_answer() {
  std::deque<Single> singles;
  Requests requests;
  for (const Request& request : different_requests()) {
    requests.push_back(&singles.emplace_back(request).request);
  }
  MergedCall merged(requests);
  const AnswerView answer = merged.answer();
  for (std::size_t i = 0; i < 7; ++i) {
    const auto number = static_cast<std::int64_t>(i);
    for (std::size_t k = 0; k < 2; ++k) {
      answer.scores[2 * i + k] = static_cast<float>(2 * i + k);
      answer.rows[2 * i + k] = 10 * number + static_cast<std::int64_t>(k);
    }
    answer.counts[i] = number % 3;
    answer.sources[i] = number % 4;
    answer.stages[i] = static_cast<std::int8_t>(i % 2);
  }
  merged.hand_out();
  for (std::size_t i = 0; i < 7; ++i) {
    const Single& one = singles[i];
    const auto number = static_cast<std::int64_t>(i);
    expect(one.rows[0] == 10 * number && one.rows[1] == 10 * number + 1 &&
               one.count == number % 3 && one.source == number % 4 &&
               one.stages == static_cast<std::int8_t>(i % 2) &&
               one.scores[1] == static_cast<float>(2 * i + 1),
           "each request gets its part");
  }
}

}  // namespace

int main() {
  columns_are_those_of_one_call();
  skips_and_joined_histories_stay_with_their_requests();
  each_request_gets_its_part_of_the_answer();
  if (n_errors == 0) std::puts("merged calls keep their promises");
  return n_errors == 0 ? 0 : 1;
}
