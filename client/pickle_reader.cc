#include "client/pickle_reader.h"

#include <algorithm>
#include <cstring>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

constexpr char kOrderedDict[] = "collections OrderedDict";
constexpr size_t kLongestName = 1024;
// Beyond what a checkpoint has by far: a byte can make an object of 72 and a name be put together anew of texts that are there once.
constexpr size_t kMostObjects = 1 << 20;
constexpr size_t kMostNameBytes = 1 << 20;
// Protocols of torch.save are 2 by default; no later one changed what an opcode means.
constexpr int kOldestProtocol = 2;
constexpr int kNewestProtocol = 5;

// Opcodes by the names of Python's pickletools.
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNoneOp = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kEmptyList = ']',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kDictOp = 'd',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kList = 'l',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyTuple = ')',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

}  // namespace

// The stack machine of the format. A member that finds something wrong sets `error_` and gives what is harmless; Run() looks after each
// opcode.
class PickleParser {
 public:
  using Index = Pickle::Index;
  using Kind = Pickle::Kind;

  explicit PickleParser(absl::Span<const char> bytes) : bytes_(bytes) {}

  absl::StatusOr<Pickle> Run() {
    while (true) {
      opcode_at_ = at_;
      const uint8_t opcode = Read<uint8_t>();
      if (opcode == kStop && error_.ok()) break;
      if (error_.ok()) Do(opcode);
      const size_t objects = std::max({pickle_.nodes_.size(), stack_.size(), marks_.size(), memo_.size()});
      if (error_.ok() && objects > kMostObjects) Fail("too many objects");
      if (!error_.ok()) return error_;
    }
    pickle_.root_ = Pop();
    if (!error_.ok()) return error_;
    return std::move(pickle_);
  }

 private:
  void Fail(absl::string_view what) {
    if (error_.ok()) error_ = absl::InvalidArgumentError(absl::StrCat("not a pickle that can be read: byte ", opcode_at_, ": ", what));
  }

  template <typename T>
  T Read() {
    T value{};
    const absl::string_view raw = ReadBytes(sizeof(T));
    if (error_.ok()) std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }
  absl::string_view ReadBytes(uint64_t count) {
    if (count > bytes_.size() - at_) {
      if (error_.ok()) error_ = absl::DataLossError(absl::StrCat("a pickle that is cut short: it ends at byte ", bytes_.size()));
      return {};
    }
    const absl::string_view result(bytes_.data() + at_, count);
    at_ += count;
    return result;
  }
  absl::string_view ReadLine() {
    const absl::string_view rest(bytes_.data() + at_, bytes_.size() - at_);
    const size_t end = rest.find('\n');
    if (end == absl::string_view::npos) return ReadBytes(rest.size() + 1);
    at_ += end + 1;
    return rest.substr(0, end);
  }

  Index Make(Kind kind) {
    pickle_.nodes_.emplace_back();
    pickle_.nodes_.back().kind = kind;
    return static_cast<Index>(pickle_.nodes_.size() - 1);
  }
  Pickle::Node& node(Index index) { return pickle_.nodes_[index]; }
  void Push(Index index) { stack_.push_back(index); }
  void PushNumber(Kind kind, int64_t number) {
    Push(Make(kind));
    node(stack_.back()).number = number;
  }
  void PushText(Kind kind, absl::string_view text) {
    Push(Make(kind));
    node(stack_.back()).text = std::string(text);
  }
  size_t Floor() const { return marks_.empty() ? 0 : marks_.back(); }
  Index Pop() {
    if (stack_.size() <= Floor()) {
      Fail("the stack is empty");
      return 0;
    }
    const Index top = stack_.back();
    stack_.pop_back();
    return top;
  }
  // What lies above the last mark.
  std::vector<Index> PopToMark() {
    if (marks_.empty()) {
      Fail("no mark");
      return {};
    }
    std::vector<Index> items(stack_.begin() + marks_.back(), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  void PushSequence(std::vector<Index> items) {
    Push(Make(Kind::kSequence));
    node(stack_.back()).items = std::move(items);
  }
  void PushTuple(int count) {
    std::vector<Index> items(count);
    for (int i = count - 1; i >= 0; --i) items[i] = Pop();
    PushSequence(std::move(items));
  }
  // Adds to the list, set or dict on top. What a call would have made cannot take anything; it stays what it is.
  void Extend(Kind kind, const std::vector<Index>& items) {
    const Index target = Pop();
    if (!error_.ok()) return;
    Push(target);
    Pickle::Node& top = node(target);
    if (kind == Kind::kDict && items.size() % 2 != 0) return Fail("a key without a value");
    if (top.kind == Kind::kCall) return;
    if (top.kind != kind) return Fail("items for what takes none");
    top.items.insert(top.items.end(), items.begin(), items.end());
  }
  void PushName(const std::string& module, const std::string& name) {
    if (module.size() + name.size() > kLongestName) return Fail("a name that is too long");
    name_bytes_ += module.size() + name.size();
    if (name_bytes_ > kMostNameBytes) return Fail("too many names");
    PushText(Kind::kName, absl::StrCat(module, " ", name));
  }
  void Call() {
    const Index arguments = Pop();
    const Index callee = Pop();
    if (!error_.ok()) return;
    if (node(callee).kind == Kind::kName && node(callee).text == kOrderedDict) {
      // OrderedDict(), or OrderedDict([(key, value), ...]).
      const Index dict = Make(Kind::kDict);
      if (!node(arguments).items.empty()) {
        const std::vector<Index>& pairs = node(node(arguments).items[0]).items;
        // The same list may be given again and again; no honest pickle has more pairs than bytes.
        copied_ += pairs.size();
        if (copied_ > std::min(bytes_.size(), kMostObjects)) return Fail("too many pairs");
        for (Index pair : pairs) {
          if (node(pair).items.size() != 2) return Fail("an OrderedDict of what are no pairs");
          node(dict).items.insert(node(dict).items.end(), node(pair).items.begin(), node(pair).items.end());
        }
      }
      return Push(dict);
    }
    Push(Make(Kind::kCall));
    node(stack_.back()).items = {callee, arguments};
  }
  void Put(uint64_t key) {
    const Index top = Pop();
    if (!error_.ok()) return;
    Push(top);
    memo_[key] = top;
  }
  void Get(uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) return Fail("what was never put is got");
    Push(found->second);
  }
  // Little-endian two's complement of any length; those beyond 64 bits are nothing that we look for.
  void PushLong(absl::string_view digits) {
    if (digits.size() > sizeof(int64_t)) return Push(Make(Kind::kNone));
    int64_t value = !digits.empty() && (digits.back() & 0x80) != 0 ? -1 : 0;
    std::memcpy(&value, digits.data(), digits.size());
    PushNumber(Kind::kInt, value);
  }

  void Do(uint8_t opcode) {
    switch (opcode) {
      case kProto:
        if (const int protocol = Read<uint8_t>(); protocol < kOldestProtocol || protocol > kNewestProtocol) {
          Fail(absl::StrCat("protocol ", protocol));
        }
        return;
      case kFrame: ReadBytes(8); return;
      case kMark: marks_.push_back(stack_.size()); return;
      case kPop: Pop(); return;
      case kPopMark: PopToMark(); return;
      case kNoneOp: return Push(Make(Kind::kNone));
      case kNewTrue: return PushNumber(Kind::kBool, 1);
      case kNewFalse: return PushNumber(Kind::kBool, 0);
      case kBinInt: return PushNumber(Kind::kInt, Read<int32_t>());
      case kBinInt1: return PushNumber(Kind::kInt, Read<uint8_t>());
      case kBinInt2: return PushNumber(Kind::kInt, Read<uint16_t>());
      case kLong1: return PushLong(ReadBytes(Read<uint8_t>()));
      case kBinFloat: ReadBytes(8); return Push(Make(Kind::kFloat));
      case kShortBinString:
      case kShortBinBytes:
      case kShortBinUnicode: return PushText(Kind::kString, ReadBytes(Read<uint8_t>()));
      case kBinString:
      case kBinBytes:
      case kBinUnicode: return PushText(Kind::kString, ReadBytes(Read<uint32_t>()));
      case kBinUnicode8:
      case kBinBytes8: return PushText(Kind::kString, ReadBytes(Read<uint64_t>()));
      case kEmptyList:
      case kEmptyTuple:
      case kEmptySet: return PushSequence({});
      case kList:
      case kTuple: return PushSequence(PopToMark());
      case kTuple1: return PushTuple(1);
      case kTuple2: return PushTuple(2);
      case kTuple3: return PushTuple(3);
      case kEmptyDict: return Push(Make(Kind::kDict));
      case kDictOp: {
        const std::vector<Index> items = PopToMark();
        Push(Make(Kind::kDict));
        return Extend(Kind::kDict, items);
      }
      case kAppend: {
        const Index item = Pop();
        return Extend(Kind::kSequence, {item});
      }
      case kAppends:
      case kAddItems: return Extend(Kind::kSequence, PopToMark());
      case kSetItem: {
        const Index value = Pop();
        const Index key = Pop();
        return Extend(Kind::kDict, {key, value});
      }
      case kSetItems: return Extend(Kind::kDict, PopToMark());
      case kGlobal: {
        const std::string module(ReadLine());
        return PushName(module, std::string(ReadLine()));
      }
      case kStackGlobal: {
        const Index name = Pop();
        const Index module = Pop();
        if (error_.ok()) PushName(node(module).text, node(name).text);
        return;
      }
      case kReduce:
      case kNewObj: return Call();
      case kNewObjEx: Pop(); return Call();  // Keyword arguments.
      case kBuild: Pop(); return;            // The state of the object below.
      case kBinPersId: {
        const Index id = Pop();
        Push(Make(Kind::kPersistent));
        node(stack_.back()).items = {id};
        return;
      }
      case kBinPut: return Put(Read<uint8_t>());
      case kLongBinPut: return Put(Read<uint32_t>());
      case kMemoize: return Put(memo_.size());
      case kBinGet: return Get(Read<uint8_t>());
      case kLongBinGet: return Get(Read<uint32_t>());
      default: return Fail(absl::StrCat("opcode 0x", absl::Hex(opcode, absl::kZeroPad2)));
    }
  }

  const absl::Span<const char> bytes_;
  size_t at_ = 0;
  size_t opcode_at_ = 0;
  absl::Status error_;
  Pickle pickle_;
  std::vector<Index> stack_;
  std::vector<size_t> marks_;  // Heights of the stack.
  size_t copied_ = 0;          // Pairs of OrderedDicts.
  size_t name_bytes_ = 0;
  absl::flat_hash_map<uint64_t, Index> memo_;
};

absl::StatusOr<Pickle> Pickle::Parse(absl::Span<const char> bytes) { return PickleParser(bytes).Run(); }

}  // namespace myriad
