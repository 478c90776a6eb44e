#include "tests/testing/server/row_store_model.h"

#include <algorithm>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "tests/testing/server/change_rows.h"

namespace myriad {

std::vector<std::byte> RowStoreModel::Record(int64_t class_id) const {
  const auto row = rows_.find(class_id);
  if (row != rows_.end()) return row->second.record;
  std::vector<std::byte> record(codec_.record_bytes());
  codec_.EncodeVirtual(class_id, record.data());
  return record;
}

absl::Status RowStoreModel::Step(RowStore* store, absl::Span<const int64_t> class_ids, int64_t step, bool commit) {
  const int64_t dim = head_.embedding_dim;
  const int64_t slot_numbers = SlotNumbers(head_);
  RowStore::PinFigures figures;
  if (absl::Status status = store->Pin(step, class_ids, &figures); !status.ok()) return status;
  const RowView& pinned = store->pinned_rows();
  std::vector<float> weights(dim), slots(slot_numbers), scratch(pinned.scratch_floats());
  EXPECT_EQ(pinned.count(), static_cast<int64_t>(class_ids.size()));
  for (size_t i = 0; i < class_ids.size(); ++i) {
    codec_.Decode(Record(class_ids[i]).data(), weights.data(), slots.data());
    EXPECT_TRUE(std::equal(weights.begin(), weights.end(), pinned.Weights(i, scratch.data())))
        << "class " << class_ids[i] << ", step " << step;
  }
  if (!commit) {
    store->Unpin();
    return absl::OkStatus();
  }
  ChangeRows(store, [&](int64_t i, float* row_weights, float* row_slots) {
    const int64_t class_id = class_ids[i];
    codec_.Decode(Record(class_id).data(), weights.data(), slots.data());
    EXPECT_TRUE(std::equal(weights.begin(), weights.end(), row_weights)) << "class " << class_id << ", step " << step;
    EXPECT_TRUE(std::equal(slots.begin(), slots.end(), row_slots)) << "class " << class_id << ", step " << step;
    for (int64_t s = 0; s < slot_numbers; ++s) {
      row_slots[s] = slots[s] = 0.9f * slots[s] + 0.001f * static_cast<float>(step + s + class_id);
    }
    for (int64_t d = 0; d < dim; ++d) row_weights[d] = weights[d] -= 0.1f * slots[d];
    StoredRow& row = rows_[class_id];
    row.step = step;
    row.record.resize(codec_.record_bytes());
    codec_.EncodeStep(step, class_id, weights.data(), slots.data(), row.record.data());
  });
  store->Commit();
  return absl::OkStatus();
}

absl::Status RowStoreModel::Write(RowStore* store, absl::Span<const int64_t> class_ids, std::mt19937_64* random) {
  std::vector<float> weights(class_ids.size() * head_.embedding_dim);
  std::uniform_real_distribution<float> number(-1, 1);
  for (float& value : weights) value = number(*random);
  if (absl::Status status = store->Write(class_ids, weights.data(), nullptr); !status.ok()) return status;
  for (size_t i = 0; i < class_ids.size(); ++i) {
    StoredRow& row = rows_[class_ids[i]];
    row.step = -1;
    row.record.resize(codec_.record_bytes());
    codec_.EncodeNearest(weights.data() + i * head_.embedding_dim, nullptr, row.record.data());
  }
  return absl::OkStatus();
}

absl::Status RowStoreModel::StoreVirtualRows(RowStore* store) {
  const absl::Status status = store->StoreVirtualRows();
  for (int64_t class_id = 0; status.ok() && class_id < head_.class_count; ++class_id)
    rows_.try_emplace(class_id, StoredRow{Record(class_id), -1});
  return status;
}

absl::Status RowStoreModel::Read(const RowStore& store, absl::Span<const int64_t> class_ids) const {
  const int64_t dim = head_.embedding_dim;
  const int64_t slot_numbers = SlotNumbers(head_);
  std::vector<float> weights(class_ids.size() * dim), slots(class_ids.size() * slot_numbers);
  std::vector<uint8_t> exists(class_ids.size());
  std::vector<int64_t> steps(class_ids.size());
  if (absl::Status status = store.Read(class_ids, weights.data(), slots.data(), exists.data(), steps.data()); !status.ok()) return status;
  std::vector<float> expected_weights(dim), expected_slots(slot_numbers);
  for (size_t i = 0; i < class_ids.size(); ++i) {
    codec_.Decode(Record(class_ids[i]).data(), expected_weights.data(), expected_slots.data());
    EXPECT_TRUE(std::equal(expected_weights.begin(), expected_weights.end(), weights.begin() + i * dim)) << "class " << class_ids[i];
    EXPECT_TRUE(std::equal(expected_slots.begin(), expected_slots.end(), slots.begin() + i * slot_numbers)) << "class " << class_ids[i];
    const auto row = rows_.find(class_ids[i]);
    EXPECT_EQ(exists[i], row != rows_.end()) << "class " << class_ids[i];
    EXPECT_EQ(steps[i], row == rows_.end() ? -1 : row->second.step) << "class " << class_ids[i];
  }
  return absl::OkStatus();
}

void RowStoreModel::CheckAll(const RowStore& store) const {
  std::vector<int64_t> all(head_.class_count);
  std::iota(all.begin(), all.end(), 0);
  const absl::Status status = Read(store, all);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(store.row_count(), static_cast<int64_t>(rows_.size()));
  constexpr int64_t kKeys = 97;
  std::set<int64_t> scanned;
  int64_t after = -1;
  for (size_t found = kKeys; found == kKeys;) {
    const std::vector<int64_t> keys = store.ScanKeys(after, kKeys);
    for (const int64_t key : keys) scanned.insert(store.ClassOfKey(key));
    found = keys.size();
    if (found > 0) after = keys.back();
  }
  std::set<int64_t> expected;
  for (const auto& [class_id, row] : rows_) expected.insert(class_id);
  EXPECT_EQ(scanned, expected);
}

std::vector<int64_t> RandomClassIds(int64_t class_count, int64_t count, std::mt19937_64* random) {
  std::set<int64_t> ids;
  while (static_cast<int64_t>(ids.size()) < count) ids.insert(static_cast<int64_t>((*random)() % class_count));
  std::vector<int64_t> result(ids.begin(), ids.end());
  std::shuffle(result.begin(), result.end(), *random);
  return result;
}

}  // namespace myriad
