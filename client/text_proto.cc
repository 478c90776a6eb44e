#include "client/text_proto.h"

#include <google/protobuf/io/tokenizer.h>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  explicit FirstError(const std::string& source) : source_(source) {}
  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(source_, ":", line + 1, ":", column + 1, ": ", message));
  }
  const absl::Status& status() const { return status_; }

 private:
  const std::string source_;
  absl::Status status_;
};

}  // namespace

absl::Status ParseText(absl::string_view text, const std::string& source, google::protobuf::Message* message,
                       google::protobuf::TextFormat::ParseInfoTree* tree) {
  FirstError error(source);
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (tree != nullptr) parser.WriteLocationsTo(tree);
  if (parser.ParseFromString(std::string(text), message)) return absl::OkStatus();
  if (!error.status().ok()) return error.status();
  return absl::InvalidArgumentError(absl::StrCat(source, ": no ", message->GetTypeName(), " in text format"));
}

}  // namespace myriad
