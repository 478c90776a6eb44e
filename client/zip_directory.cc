#include "client/zip_directory.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"

namespace myriad {
namespace {

// Records of the format (PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.16): a signature, then fields at fixed offsets.
constexpr uint32_t kLocalHeader = 0x04034b50;
constexpr uint32_t kCentralHeader = 0x02014b50;
constexpr uint32_t kEndOfDirectory = 0x06054b50;
constexpr uint32_t kEndOfDirectory64 = 0x06064b50;
constexpr uint32_t kLocatorOfEnd64 = 0x07064b50;
constexpr uint64_t kLocalHeaderBytes = 30;
constexpr uint64_t kCentralHeaderBytes = 46;
constexpr uint64_t kEndBytes = 22;
constexpr uint64_t kEnd64Bytes = 56;
constexpr uint64_t kLocatorBytes = 20;
constexpr uint64_t kLongestComment = 65535;
constexpr uint16_t kEncrypted = 1;
constexpr uint16_t kWideFields = 1;           // The extra field with what did not fit 32 bits.
constexpr uint32_t kElsewhere = 0xffffffffu;  // A field of 32 bits that is in the extra field.

template <typename T>
T Load(absl::Span<const char> bytes, uint64_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

bool Fits(absl::Span<const char> bytes, uint64_t offset, uint64_t count) {
  return offset <= bytes.size() && count <= bytes.size() - offset;
}

absl::Status Damaged(const std::string& what) { return absl::DataLossError(absl::StrCat("damaged zip archive: ", what)); }

// Where the record stands that ends every archive; a comment may follow it.
absl::optional<uint64_t> FindEnd(absl::Span<const char> archive) {
  if (archive.size() < kEndBytes) return absl::nullopt;
  const uint64_t last = archive.size() - kEndBytes;
  const uint64_t first = last - std::min(last, kLongestComment);
  for (uint64_t at = last;; --at) {
    if (Load<uint32_t>(archive, at) == kEndOfDirectory && Load<uint16_t>(archive, at + 20) == last - at) return at;
    if (at == first) return absl::nullopt;
  }
}

struct Extent {
  uint64_t count = 0;   // Files.
  uint64_t offset = 0;  // Of the first record.
};

absl::StatusOr<Extent> FindDirectory(absl::Span<const char> archive) {
  const absl::optional<uint64_t> end = FindEnd(archive);
  if (!end.has_value()) {
    // It starts like one and does not end like one.
    if (archive.size() >= 4 && Load<uint32_t>(archive, 0) == kLocalHeader) return Damaged("cut short");
    return absl::InvalidArgumentError("not a zip archive");
  }
  Extent extent = {Load<uint16_t>(archive, *end + 10), Load<uint32_t>(archive, *end + 16)};
  uint32_t parts = Load<uint16_t>(archive, *end + 4);
  if (*end >= kLocatorBytes && Load<uint32_t>(archive, *end - kLocatorBytes) == kLocatorOfEnd64) {
    const uint64_t end64 = Load<uint64_t>(archive, *end - kLocatorBytes + 8);
    if (!Fits(archive, end64, kEnd64Bytes) || Load<uint32_t>(archive, end64) != kEndOfDirectory64) return Damaged("no 64-bit end record");
    parts = Load<uint32_t>(archive, end64 + 16);
    extent = {Load<uint64_t>(archive, end64 + 32), Load<uint64_t>(archive, end64 + 48)};
  }
  if (parts != 0) return absl::InvalidArgumentError("a zip archive of several parts");
  return extent;
}

// The 64-bit values of a central record's extra field for those of `size`, `stored_size` and `offset` that did not fit, in that order.
absl::Status ReadWideFields(absl::Span<const char> extra, uint64_t* size, uint64_t* stored_size, uint64_t* offset) {
  absl::Span<const char> wide;
  while (extra.size() >= 4) {
    const uint16_t kind = Load<uint16_t>(extra, 0);
    const uint16_t count = Load<uint16_t>(extra, 2);
    if (!Fits(extra, 4, count)) return Damaged("an extra field is cut short");
    if (kind == kWideFields) wide = extra.subspan(4, count);
    extra.remove_prefix(4 + count);
  }
  for (uint64_t* field : {size, stored_size, offset}) {
    if (*field != kElsewhere) continue;
    if (wide.size() < 8) return Damaged("a 64-bit field is missing");
    *field = Load<uint64_t>(wide, 0);
    wide.remove_prefix(8);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::map<std::string, ZipEntry>> ReadZipDirectory(absl::Span<const char> archive) {
  const absl::StatusOr<Extent> extent = FindDirectory(archive);
  if (!extent.ok()) return extent.status();
  std::map<std::string, ZipEntry> entries;
  uint64_t at = extent->offset;
  for (uint64_t i = 0; i < extent->count; ++i) {
    if (!Fits(archive, at, kCentralHeaderBytes) || Load<uint32_t>(archive, at) != kCentralHeader) {
      return Damaged(absl::StrCat("no record of file ", i, " of ", extent->count));
    }
    const uint16_t name_bytes = Load<uint16_t>(archive, at + 28);
    const uint16_t extra_bytes = Load<uint16_t>(archive, at + 30);
    const uint64_t record_bytes = kCentralHeaderBytes + name_bytes + extra_bytes + Load<uint16_t>(archive, at + 32);
    if (!Fits(archive, at, record_bytes)) return Damaged(absl::StrCat("the record of file ", i, " is cut short"));
    const std::string name(archive.data() + at + kCentralHeaderBytes, name_bytes);
    if ((Load<uint16_t>(archive, at + 8) & kEncrypted) != 0) return absl::InvalidArgumentError(absl::StrCat(name, " is encrypted"));
    if (Load<uint16_t>(archive, at + 10) != 0) return absl::InvalidArgumentError(absl::StrCat(name, " is compressed"));
    uint64_t stored_size = Load<uint32_t>(archive, at + 20);
    uint64_t size = Load<uint32_t>(archive, at + 24);
    uint64_t offset = Load<uint32_t>(archive, at + 42);
    const absl::Span<const char> extra = archive.subspan(at + kCentralHeaderBytes + name_bytes, extra_bytes);
    if (absl::Status status = ReadWideFields(extra, &size, &stored_size, &offset); !status.ok()) return status;
    if (!Fits(archive, offset, kLocalHeaderBytes) || Load<uint32_t>(archive, offset) != kLocalHeader) {
      return Damaged(absl::StrCat(name, " is not where its record says"));
    }
    // The local header has lengths of its own: writers pad there to align the bytes.
    const uint64_t begin = offset + kLocalHeaderBytes + Load<uint16_t>(archive, offset + 26) + Load<uint16_t>(archive, offset + 28);
    if (size != stored_size || !Fits(archive, begin, size)) return Damaged(absl::StrCat(name, " is cut short"));
    entries[name] = {archive.subspan(begin, size), Load<uint32_t>(archive, at + 16)};
    at += record_bytes;
  }
  return entries;
}

absl::Status CheckZipEntry(const ZipEntry& entry) {
  const uint32_t found = static_cast<uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(entry.bytes.data()), entry.bytes.size()));
  if (found == entry.crc32) return absl::OkStatus();
  return Damaged(absl::StrCat(entry.bytes.size(), " bytes have checksum ", absl::Hex(found, absl::kZeroPad8), "; ",
                              absl::Hex(entry.crc32, absl::kZeroPad8), " is stored"));
}

}  // namespace myriad
