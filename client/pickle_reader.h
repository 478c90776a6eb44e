#ifndef MYRIAD_CLIENT_PICKLE_READER_H_
#define MYRIAD_CLIENT_PICKLE_READER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace myriad {

// A Python pickle (protocols 2 to 5) read as data. A pickle is a program that imports and calls what it names; here nothing is imported and
// nothing is called: a class or function stays a name, and what a call would have made is a kCall with that name and its arguments. Only
// collections.OrderedDict is known, as the dict that it is.
class Pickle {
 public:
  using Index = int32_t;  // Of a node.

  enum class Kind {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,      // str and bytes.
    kSequence,    // list, tuple, set.
    kDict,        // `items` are key, value, key, value, ...
    kName,        // A class or function: "module name" in `text`.
    kCall,        // items[0]: what was called; items[1]: a kSequence of arguments. State set afterwards is dropped.
    kPersistent,  // items[0]: what says which object outside of the pickle is meant.
  };
  struct Node {
    Kind kind = Kind::kNone;
    int64_t number = 0;  // kBool, kInt.
    std::string text;    // kString, kName.
    std::vector<Index> items;
  };

  // Memory: that of `bytes` again, and some 200 MiB at most. Errors: INVALID_ARGUMENT: no pickle of these protocols, or one of more than a
  // million objects; DATA_LOSS: cut short. Names the byte.
  static absl::StatusOr<Pickle> Parse(absl::Span<const char> bytes);

  Index root() const { return root_; }
  // Valid while the object lives. Nodes may be shared, and a list may hold itself.
  const Node& node(Index index) const { return nodes_[index]; }

 private:
  friend class PickleParser;

  std::vector<Node> nodes_;
  Index root_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_PICKLE_READER_H_
