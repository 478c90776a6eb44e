#ifndef MYRIAD_CLIENT_ZIP_DIRECTORY_H_
#define MYRIAD_CLIENT_ZIP_DIRECTORY_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace myriad {

// A file of a zip archive that was stored as it is.
struct ZipEntry {
  absl::Span<const char> bytes;  // Of the archive's own.
  uint32_t crc32 = 0;            // What the archive says that it is.
};

// The files of a zip archive in memory, by name; with the 64-bit fields that archives beyond 4 GiB have. Contents are not looked at.
// Errors: INVALID_ARGUMENT: no zip archive, or one that is compressed, encrypted or of several parts; DATA_LOSS: damaged or cut short.
absl::StatusOr<std::map<std::string, ZipEntry>> ReadZipDirectory(absl::Span<const char> archive);

// Reads all of the entry. DATA_LOSS if its checksum is another.
absl::Status CheckZipEntry(const ZipEntry& entry);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_ZIP_DIRECTORY_H_
