#include "server/store/presence_bitmap.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <xxhash.h>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

// Before the pages in the serialized bitmap.
struct Shape {
  int64_t class_count;
  int64_t first_partition;
  int64_t last_partition;
  int64_t page_count;
};

}  // namespace

PresenceBitmap::PresenceBitmap(const Partitions& partitions, int shard, int shard_count)
    : partitions_(partitions),
      first_(partitions.ShardRange(shard, shard_count).first),
      last_(partitions.ShardRange(shard, shard_count).second) {}

bool PresenceBitmap::Test(RowKey key) const {
  const auto page = pages_.find(PageOf(key));
  return page != pages_.end() && (page->second[WordOf(key)] & BitOf(key)) != 0;
}

void PresenceBitmap::Set(RowKey key) {
  uint64_t& word = pages_.try_emplace(PageOf(key), Page{}).first->second[WordOf(key)];
  count_ += (word & BitOf(key)) == 0;
  word |= BitOf(key);
}

void PresenceBitmap::Clear(RowKey key) {
  if (!Test(key)) return;
  pages_.find(PageOf(key))->second[WordOf(key)] &= ~BitOf(key);
  --count_;
}

std::vector<int64_t> PresenceBitmap::SortedPages() const {
  std::vector<int64_t> numbers;
  numbers.reserve(pages_.size());
  for (const auto& [number, page] : pages_) numbers.push_back(number);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

void PresenceBitmap::AppendKeys(int64_t page_number, const Page& page, RowKey after, int64_t max, std::vector<RowKey>* keys) {
  for (size_t w = 0; w < page.size(); ++w) {
    for (uint64_t word = page[w]; word != 0; word &= word - 1) {
      const RowKey key = (page_number << kPageBits) + static_cast<int64_t>(w) * 64 + __builtin_ctzll(word);
      if (static_cast<int64_t>(keys->size()) == max) return;
      if (key > after) keys->push_back(key);
    }
  }
}

std::vector<RowKey> PresenceBitmap::Next(RowKey after, int64_t max) const {
  std::vector<RowKey> keys;
  const std::vector<int64_t> numbers = SortedPages();
  const int64_t from = after < 0 ? 0 : PageOf(after);
  for (auto number = std::lower_bound(numbers.begin(), numbers.end(), from); number != numbers.end(); ++number) {
    AppendKeys(*number, pages_.at(*number), after, max, &keys);
    if (static_cast<int64_t>(keys.size()) == max) break;
  }
  return keys;
}

std::vector<RowKey> PresenceBitmap::KeysOf(int32_t partition) const {
  std::vector<RowKey> keys;
  const int64_t size = partitions_.size(partition);
  for (int64_t number = PageOf(KeyOfPlace({partition, 0})); number << kPageBits < KeyOfPlace({partition, size}); ++number) {
    const auto page = pages_.find(number);
    if (page != pages_.end()) AppendKeys(number, page->second, -1, size, &keys);
  }
  return keys;
}

int64_t PresenceBitmap::MemoryBytes(int64_t class_count) {
  // A slot of the hash map holds number and page, one byte more of control, and is filled to 7/16 at worst.
  constexpr int64_t kSlotBytes = sizeof(std::pair<int64_t, Page>) + 1;
  return ((class_count >> kPageBits) + 1) * kSlotBytes * 16 / 7;
}

std::string PresenceBitmap::Serialize() const {
  const Shape shape{partitions_.class_count(), first_, last_, static_cast<int64_t>(pages_.size())};
  std::string bytes(reinterpret_cast<const char*>(&shape), sizeof(shape));
  bytes.reserve(sizeof(shape) + pages_.size() * (sizeof(int64_t) + sizeof(Page)) + sizeof(uint64_t));
  for (const int64_t number : SortedPages()) {
    bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
    bytes.append(reinterpret_cast<const char*>(pages_.at(number).data()), sizeof(Page));
  }
  const uint64_t checksum = XXH3_64bits(bytes.data(), bytes.size());
  bytes.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return bytes;
}

absl::Status PresenceBitmap::Parse(absl::string_view bytes) {
  Shape shape;
  uint64_t checksum = 0;
  if (bytes.size() < sizeof(shape) + sizeof(checksum)) {
    return absl::DataLossError(absl::StrCat("the bitmap of rows that exist has only ", bytes.size(), " bytes"));
  }
  const size_t body = bytes.size() - sizeof(checksum);
  std::memcpy(&shape, bytes.data(), sizeof(shape));
  std::memcpy(&checksum, bytes.data() + body, sizeof(checksum));
  if (checksum != XXH3_64bits(bytes.data(), body))
    return absl::DataLossError("the bitmap of rows that exist is damaged: its checksum is wrong");
  if (shape.class_count != partitions_.class_count() || shape.first_partition != first_ || shape.last_partition != last_) {
    return absl::FailedPreconditionError(absl::StrCat("the bitmap of rows that exist is of ", shape.class_count, " classes, partitions ",
                                                      shape.first_partition, " to ", shape.last_partition, "; this shard has ",
                                                      partitions_.class_count(), ", ", first_, " to ", last_));
  }
  constexpr size_t kEntryBytes = sizeof(int64_t) + sizeof(Page);
  const size_t wanted = sizeof(shape) + shape.page_count * kEntryBytes;
  if (shape.page_count < 0 || wanted != body) {
    return absl::DataLossError(absl::StrCat("the bitmap of rows that exist has ", body, " bytes, not ", wanted));
  }
  absl::flat_hash_map<int64_t, Page> pages;
  pages.reserve(shape.page_count);
  int64_t count = 0;
  for (const char* from = bytes.data() + sizeof(shape); from < bytes.data() + body; from += kEntryBytes) {
    int64_t number;
    Page page;
    std::memcpy(&number, from, sizeof(number));
    std::memcpy(page.data(), from + sizeof(number), sizeof(page));
    for (const uint64_t word : page) count += __builtin_popcountll(word);
    pages.emplace(number, page);
  }
  pages_ = std::move(pages);
  count_ = count;
  return absl::OkStatus();
}

}  // namespace myriad
