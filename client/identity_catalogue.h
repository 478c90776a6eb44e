#ifndef MYRIAD_CLIENT_IDENTITY_CATALOGUE_H_
#define MYRIAD_CLIENT_IDENTITY_CATALOGUE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace myriad {

// The identity names of a head: class id <-> name. In a file, one name a line; the line's number, from 0, is the class id. Names are only
// appended, so an id never changes its meaning. About 25 bytes a name beside the names themselves. Thread-compatible.
class IdentityCatalogue {
 public:
  IdentityCatalogue();
  ~IdentityCatalogue();
  IdentityCatalogue(IdentityCatalogue&&) noexcept;
  IdentityCatalogue& operator=(IdentityCatalogue&&) noexcept;

  // Reads a file. Errors: NOT_FOUND and others of the system; INVALID_ARGUMENT naming path and line: an empty name, a tab, a name that an
  // earlier line has.
  static absl::StatusOr<IdentityCatalogue> Load(const std::string& path);
  // The same of a file's content; `path` is for the message.
  static absl::StatusOr<IdentityCatalogue> Parse(absl::string_view text, const std::string& path);

  // Writes all names to a file, atomically.
  absl::Status Save(const std::string& path) const;

  // The number of names; class ids are 0 .. size()-1.
  int64_t size() const;

  // Adds a name and returns its class id, the former size(). Errors: ALREADY_EXISTS naming the id that has it; INVALID_ARGUMENT: empty, or
  // with a tab, line feed, carriage return or NUL (a file could not hold it).
  absl::StatusOr<int64_t> Append(absl::string_view name);

  // Errors: NOT_FOUND naming the name.
  absl::StatusOr<int64_t> IdOf(absl::string_view name) const;

  // Requires: class_id in [0, size()). Valid until the next Append.
  absl::string_view NameOf(int64_t class_id) const;

  // As a file has it. Valid until the next Append.
  absl::string_view text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_IDENTITY_CATALOGUE_H_
