#include "server/store/cold_store_shortener.h"

#include <cstddef>
#include <utility>

#include "server/store/cold_record.h"

namespace myriad {

void ColdStoreShortener::Set(int64_t short_bytes, ColdStore::Shortener shortener) {
  absl::MutexLock lock(&mu_);
  short_bytes_ = short_bytes;
  shortener_ = std::move(shortener);
}

rocksdb::CompactionFilter::Decision ColdStoreShortener::FilterV2(int, const rocksdb::Slice& key, ValueType type,
                                                                 const rocksdb::Slice& value, std::string* new_value, std::string*) const {
  absl::ReaderMutexLock lock(&mu_);
  if (shortener_ == nullptr || type != ValueType::kValue) return Decision::kKeep;
  const int64_t record_bytes = static_cast<int64_t>(value.size()) - kColdHeaderBytes;
  // Short already; or damaged, which whoever reads it is to see.
  if (record_bytes <= short_bytes_ || ColdStore::IsShort(StepOfColdValue(value.data()))) return Decision::kKeep;
  int64_t step = 0;
  const uint64_t record = DecodeColdKey(key.data());
  if (!DecodeColdValue(record, value.data(), record_bytes, &step)) return Decision::kKeep;
  new_value->assign(value.data(), value.size());
  if (!shortener_(record, &step, reinterpret_cast<std::byte*>(new_value->data() + kColdHeaderBytes))) return Decision::kKeep;
  new_value->resize(kColdHeaderBytes + short_bytes_);
  SealColdValue(record, ColdStore::kShort + step, short_bytes_, new_value->data());
  return Decision::kChangeValue;
}

}  // namespace myriad
