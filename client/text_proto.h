#ifndef MYRIAD_CLIENT_TEXT_PROTO_H_
#define MYRIAD_CLIENT_TEXT_PROTO_H_

#include <string>

#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace myriad {

// Parses text format into `message`; where each field stood goes to `tree` if it is given. `source` is for messages.
// Errors: INVALID_ARGUMENT "SOURCE:LINE:COLUMN: ..." of the first fault; the others mostly follow from it.
absl::Status ParseText(absl::string_view text, const std::string& source, google::protobuf::Message* message,
                       google::protobuf::TextFormat::ParseInfoTree* tree = nullptr);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_TEXT_PROTO_H_
