#include "client/field_path.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace myriad {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;

std::string Indexed(absl::string_view path, int index) { return absl::StrCat(path, "[", index, "]"); }

std::string Child(absl::string_view path, absl::string_view name) {
  return path.empty() ? std::string(name) : absl::StrCat(path, ".", name);
}

std::string FieldNames(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return absl::StrJoin(names, ", ");
}

void Visit(Message* parent, absl::Span<const std::string> names, const std::string& prefix, bool create,
           const TextFormat::ParseInfoTree* tree, const std::function<void(const FieldPlace&)>& visit) {
  const FieldDescriptor* field = parent->GetDescriptor()->FindFieldByName(names[0]);
  const Reflection* reflection = parent->GetReflection();
  const std::string path = Child(prefix, names[0]);
  if (names.size() == 1) {
    if (!field->is_repeated()) return visit({parent, field, -1, path, tree});
    for (int i = 0; i < reflection->FieldSize(*parent, field); ++i) visit({parent, field, i, Indexed(path, i), tree});
    return;
  }
  const absl::Span<const std::string> rest = names.subspan(1);
  if (field->is_repeated()) {
    for (int i = 0; i < reflection->FieldSize(*parent, field); ++i) {
      Visit(reflection->MutableRepeatedMessage(parent, field, i), rest, Indexed(path, i), create,
            tree == nullptr ? nullptr : tree->GetTreeForNested(field, i), visit);
    }
  } else if (reflection->HasField(*parent, field) || (create && field->real_containing_oneof() == nullptr)) {
    Visit(reflection->MutableMessage(parent, field), rest, path, create, tree == nullptr ? nullptr : tree->GetTreeForNested(field, -1),
          visit);
  }
}

// One step of an assignment's path: a field and, for a repeated one, an index or -1.
struct Segment {
  std::string name;
  int index = -1;
};

absl::StatusOr<std::vector<Segment>> ParseSegments(absl::string_view path) {
  // heads.0.training and heads[0].training are the same.
  const std::string dotted = absl::StrReplaceAll(path, {{"[", "."}, {"]", ""}});
  std::vector<Segment> segments;
  for (absl::string_view part : absl::StrSplit(dotted, '.')) {
    if (part.empty())
      return absl::InvalidArgumentError(absl::StrCat("'", path, "' is no field path; write for example heads[0].training.scale"));
    if (!absl::ascii_isdigit(part[0])) {
      segments.push_back({std::string(part), -1});
      continue;
    }
    int index = -1;
    if (segments.empty() || segments.back().index >= 0 || !absl::SimpleAtoi(part, &index)) {
      return absl::InvalidArgumentError(absl::StrCat("'", part, "' is no index of '", path, "'"));
    }
    segments.back().index = index;
  }
  return segments;
}

std::string TypeName(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE: return absl::StrCat("a message {", FieldNames(*field.message_type()), "}");
    case FieldDescriptor::CPPTYPE_ENUM: {
      std::vector<std::string> names;
      for (int i = 1; i < field.enum_type()->value_count(); ++i) names.push_back(field.enum_type()->value(i)->name());
      return absl::StrCat("one of ", absl::StrJoin(names, ", "));
    }
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64: return "a whole number";
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64: return "a whole number >= 0";
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE: return "a number";
    case FieldDescriptor::CPPTYPE_BOOL: return "true or false";
    case FieldDescriptor::CPPTYPE_STRING: return "a string";
  }
  return "a value";
}

// BFLOAT16 for PRECISION_BFLOAT16: enum values carry the name before _UNSPECIFIED as a prefix.
std::string FullEnumName(const EnumDescriptor& type, const std::string& value) {
  if (type.FindValueByName(value) != nullptr) return value;
  absl::string_view prefix = type.value(0)->name();
  if (!absl::ConsumeSuffix(&prefix, "UNSPECIFIED")) return value;
  const std::string full = absl::StrCat(prefix, value);
  return type.FindValueByName(full) == nullptr ? value : full;
}

// The value as text format has it.
std::string QuotedValue(const FieldDescriptor& field, absl::string_view value) {
  const std::string trimmed(absl::StripAsciiWhitespace(value));
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    const bool quoted = trimmed.size() >= 2 && (trimmed[0] == '"' || trimmed[0] == '\'') && trimmed.back() == trimmed[0];
    return quoted ? trimmed : absl::StrCat("\"", absl::CEscape(value), "\"");
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) return FullEnumName(*field.enum_type(), trimmed);
  return trimmed;
}

// Parses `value` into `field` of an empty message of the same type as `like`.
absl::StatusOr<std::unique_ptr<Message>> ParseValue(const Message& like, const FieldDescriptor& field, absl::string_view value,
                                                    const std::string& path) {
  struct Silent : google::protobuf::io::ErrorCollector {
    void AddError(int, int, const std::string&) override {}
  } silent;
  std::unique_ptr<Message> parsed(like.New());
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&silent);
  const std::string text = absl::StrCat(field.name(), ": ", QuotedValue(field, value));
  const bool ok = parser.ParseFromString(text, parsed.get());
  const Reflection* reflection = parsed->GetReflection();
  std::vector<const FieldDescriptor*> present;
  reflection->ListFields(*parsed, &present);
  // A second field in the value ("1 seed: 2") is no value.
  const bool single = std::all_of(present.begin(), present.end(), [&](const FieldDescriptor* other) { return other == &field; });
  if (!ok || !single || !FindUnknownEnum(*parsed).empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " takes ", TypeName(field)));
  }
  return parsed;
}

// Moves into element `index`, made if it is one past the last.
absl::Status CheckIndex(const Message& parent, const FieldDescriptor& field, const std::string& path, int index) {
  const int size = parent.GetReflection()->FieldSize(parent, &field);
  if (index > size) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", size, " elements; index ", index, " is not in [0, ", size, "]"));
  }
  return absl::OkStatus();
}

absl::Status AssignLast(const Segment& segment, const std::string& path, absl::string_view value, Message* parent) {
  const FieldDescriptor* field = parent->GetDescriptor()->FindFieldByName(segment.name);
  const Reflection* reflection = parent->GetReflection();
  absl::StatusOr<std::unique_ptr<Message>> parsed = ParseValue(*parent, *field, value, path);
  if (!parsed.ok()) return parsed.status();
  if (segment.index < 0) {
    reflection->ClearField(parent, field);
    parent->MergeFrom(**parsed);
    return absl::OkStatus();
  }
  if (absl::Status status = CheckIndex(*parent, *field, path, segment.index); !status.ok()) return status;
  if (reflection->FieldSize(**parsed, field) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(path, " takes ", TypeName(*field)));
  }
  const int old_size = reflection->FieldSize(*parent, field);
  parent->MergeFrom(**parsed);
  if (segment.index < old_size) {
    reflection->SwapElements(parent, field, segment.index, old_size);
    reflection->RemoveLast(parent, field);
  }
  return absl::OkStatus();
}

}  // namespace

void VisitFields(Message* root, absl::string_view path, bool create, const TextFormat::ParseInfoTree* tree,
                 const std::function<void(const FieldPlace&)>& visit) {
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  Visit(root, names, "", create, tree, visit);
}

absl::StatusOr<std::string> AssignField(absl::string_view path, absl::string_view value, Message* message) {
  absl::StatusOr<std::vector<Segment>> segments = ParseSegments(path);
  if (!segments.ok()) return segments.status();
  std::unique_ptr<Message> changed(message->New());
  changed->CopyFrom(*message);
  Message* parent = changed.get();
  std::string walked;
  for (size_t i = 0; i < segments->size(); ++i) {
    const Segment& segment = (*segments)[i];
    const Descriptor& type = *parent->GetDescriptor();
    const FieldDescriptor* field = type.FindFieldByName(segment.name);
    if (field == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(walked.empty() ? "a job configuration" : walked, " has no field '", segment.name, "'; it has ", FieldNames(type)));
    }
    walked = Child(walked, segment.name);
    if (segment.index >= 0 && !field->is_repeated()) {
      return absl::InvalidArgumentError(absl::StrCat(walked, " is not repeated and takes no index"));
    }
    if (i + 1 == segments->size()) {
      if (absl::Status status = AssignLast(segment, walked, value, parent); !status.ok()) return status;
      if (segment.index >= 0) walked = Indexed(walked, segment.index);
      break;
    }
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return absl::InvalidArgumentError(
          absl::StrCat(walked, " is ", TypeName(*field), " and has no field '", (*segments)[i + 1].name, "'"));
    }
    const Reflection* reflection = parent->GetReflection();
    if (!field->is_repeated()) {
      parent = reflection->MutableMessage(parent, field);
      continue;
    }
    if (segment.index < 0) {
      return absl::InvalidArgumentError(absl::StrCat(walked, " is repeated: write ", walked, "[0].", (*segments)[i + 1].name));
    }
    if (absl::Status status = CheckIndex(*parent, *field, walked, segment.index); !status.ok()) return status;
    const bool is_new = segment.index == reflection->FieldSize(*parent, field);
    walked = Indexed(walked, segment.index);
    parent = is_new ? reflection->AddMessage(parent, field) : reflection->MutableRepeatedMessage(parent, field, segment.index);
  }
  message->CopyFrom(*changed);
  return walked;
}

std::string FindUnknownEnum(const Message& message) {
  const Reflection* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const int count = field->is_repeated() ? reflection->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const std::string name = field->is_repeated() ? Indexed(field->name(), i) : field->name();
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
        const int value =
            field->is_repeated() ? reflection->GetRepeatedEnumValue(message, field, i) : reflection->GetEnumValue(message, field);
        if (field->enum_type()->FindValueByNumber(value) == nullptr) {
          return absl::StrCat(name, " is ", value, ", not ", TypeName(*field));
        }
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        const std::string found = FindUnknownEnum(field->is_repeated() ? reflection->GetRepeatedMessage(message, field, i)
                                                                       : reflection->GetMessage(message, field));
        if (!found.empty()) return Child(name, found);
      }
    }
  }
  return "";
}

}  // namespace myriad
