#ifndef MYRIAD_CLIENT_FIELD_PATH_H_
#define MYRIAD_CLIENT_FIELD_PATH_H_

#include <functional>
#include <string>

#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace myriad {

// Fields of any message by their names: for assignments on a command line and for tables of rules.

// One value that a path led to.
struct FieldPlace {
  google::protobuf::Message* parent = nullptr;
  const google::protobuf::FieldDescriptor* field = nullptr;
  int index = -1;    // In a repeated field; -1 else.
  std::string path;  // "heads[0].training.scale".
  // Where `parent` was parsed from; null when that is not known.
  const google::protobuf::TextFormat::ParseInfoTree* tree = nullptr;
};

// Visits every value that `path` ("heads.training.scale") names, through all elements of repeated fields. Members of a oneof that are not
// set are passed over, other messages that are missing are made if `create`. Requires: the path exists in the message's type.
void VisitFields(google::protobuf::Message* root, absl::string_view path, bool create,
                 const google::protobuf::TextFormat::ParseInfoTree* tree, const std::function<void(const FieldPlace&)>& visit);

// Applies "PATH=VALUE" as job_config.h's SetField says, to any message; `message` is changed only on success. Returns the path in the form
// of FieldPlace::path. Errors: INVALID_ARGUMENT: what is wrong, without the assignment itself.
absl::StatusOr<std::string> AssignField(absl::string_view path, absl::string_view value, google::protobuf::Message* message);

// "PATH is VALUE, not known" for the first enum value in the message that its type does not name; "" if there is none.
std::string FindUnknownEnum(const google::protobuf::Message& message);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_FIELD_PATH_H_
