package resp

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Kind is the type of a [Reply]: the byte that it begins with on the wire.
type Kind byte

const (
	Status    Kind = '+'
	Error     Kind = '-'
	Integer   Kind = ':'
	Bulk      Kind = '$'
	Array     Kind = '*'
	Null      Kind = '_' // the nulls of version 2, too
	Boolean   Kind = '#'
	Double    Kind = ','
	BigNumber Kind = '('
	BulkError Kind = '!'
	Verbatim  Kind = '='
	Map       Kind = '%' // Elems: key, value, key, value ...
	Set       Kind = '~'
	Push      Kind = '>'

	attribute Kind = '|' // stands before the reply that it describes; skipped
)

// Reply is one reply, decoded.
type Reply struct {
	Kind  Kind
	Int   int64   // Integer; Boolean: 1 or 0
	Float float64 // Double
	Str   []byte  // Status, Error, Bulk, BulkError, BigNumber, Double; Verbatim: without its format. Aliases the buffer
	Elems []Reply // Array, Map, Set, Push
}

// Err is the error that the reply stands for, nil for all others.
func (r *Reply) Err() error {
	if r.Kind == Error || r.Kind == BulkError {
		return errors.New(string(r.Str))
	}
	return nil
}

// ErrReply is wrapped by every error about bytes that are no reply.
var ErrReply = errors.New("not a RESP reply")

// The nesting of replies is bounded because [ParseReply] recurses; Redis itself nests them less than ten deep.
const maxDepth = 64

// maxElems bounds an announced number of elements, so that sums of such numbers do not overflow.
const maxElems = math.MaxInt32

// SkipReply is the length of the first reply in buf; 0: it is incomplete. It looks at headers only, follows any depth
// without recursion, and does not allocate. The error wraps [ErrReply].
func SkipReply(buf []byte) (n int, err error) {
	for todo := 1; todo > 0; todo-- {
		kind, v, next, err := header(buf, n)
		if next == 0 {
			return 0, err
		}
		switch kind {
		case Bulk, Verbatim, BulkError:
			if v >= 0 {
				next += v + 2
			}
			if next > len(buf) {
				return 0, nil
			}
		case Array, Set, Push:
			todo += max(v, 0)
		case Map:
			todo += 2 * max(v, 0)
		case attribute:
			todo += 2*max(v, 0) + 1
		}
		n = next
	}
	return n, nil
}

// header reads the line at pos: its kind, the number in it where the kind has a length, and the position behind it (0:
// incomplete, or an error).
func header(buf []byte, pos int) (kind Kind, v, next int, err error) {
	if pos >= len(buf) {
		return 0, 0, 0, nil
	}
	kind = Kind(buf[pos])
	switch kind {
	case Status, Error, Integer, Null, Boolean, Double, BigNumber:
		end := bytes.IndexByte(buf[pos:], '\n')
		if end < 0 {
			return kind, 0, 0, nil
		}
		if buf[pos+end-1] != '\r' {
			return kind, 0, 0, replyError("a line of kind %q ends in LF without CR", byte(kind))
		}
		return kind, 0, pos + end + 1, nil
	case Bulk, Verbatim, BulkError, Array, Set, Push, Map, attribute:
		v, next, ok := length(buf, pos+1)
		if next == 0 {
			if len(buf)-pos > DefaultMaxInline {
				return kind, 0, 0, replyError("the length of kind %q has no end within %d bytes", byte(kind), DefaultMaxInline)
			}
			return kind, 0, 0, nil
		}
		if !ok || v < -1 || v > maxElems || buf[next-1] != '\n' {
			return kind, 0, 0, replyError("length %q of kind %q", buf[pos+1:next-2], byte(kind))
		}
		return kind, v, next, nil
	}
	return kind, 0, 0, replyError("unknown kind %q", byte(kind))
}

func replyError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrReply, fmt.Sprintf(format, args...))
}

// ParseReply decodes the first reply in buf and says how many bytes it took; 0: it is incomplete. Strings alias buf. The
// error wraps [ErrReply].
func ParseReply(buf []byte) (r Reply, n int, err error) {
	return parseReply(buf, 0, 0)
}

func parseReply(buf []byte, pos, depth int) (r Reply, next int, err error) {
	kind, v, next, err := header(buf, pos)
	if next == 0 {
		return r, 0, err
	}
	if depth > maxDepth {
		return r, 0, replyError("nested deeper than %d", maxDepth)
	}
	switch kind {
	case attribute:
		for range 2 * max(v, 0) {
			if _, next, err = parseReply(buf, next, depth+1); next == 0 {
				return r, 0, err
			}
		}
		return parseReply(buf, next, depth+1)
	case Array, Set, Push, Map:
		return parseElems(buf, next, kind, v, depth)
	case Bulk, Verbatim, BulkError:
		return parseBulk(buf, next, kind, v)
	}
	r = Reply{Kind: kind, Str: buf[pos+1 : next-2 : next-2]}
	ok := true
	switch kind {
	case Integer:
		r.Int, ok = ParseInt(r.Str)
	case Double:
		r.Float, err = strconv.ParseFloat(string(r.Str), 64)
		ok = err == nil
	case Boolean:
		ok = string(r.Str) == "t" || string(r.Str) == "f"
		if ok && r.Str[0] == 't' {
			r.Int = 1
		}
	case Null:
		ok = len(r.Str) == 0
	}
	if !ok {
		return r, 0, replyError("value %q of kind %q", r.Str, byte(kind))
	}
	return r, next, nil
}

func parseElems(buf []byte, pos int, kind Kind, n, depth int) (r Reply, next int, err error) {
	if n < 0 {
		return Reply{Kind: Null}, pos, nil
	}
	if kind == Map {
		n *= 2
	}
	r.Kind = kind
	r.Elems = make([]Reply, 0, min(n, 64)) // an announced number alone takes no memory
	for range n {
		var e Reply
		if e, pos, err = parseReply(buf, pos, depth+1); pos == 0 {
			return r, 0, err
		}
		r.Elems = append(r.Elems, e)
	}
	return r, pos, nil
}

func parseBulk(buf []byte, pos int, kind Kind, n int) (r Reply, next int, err error) {
	if n < 0 {
		return Reply{Kind: Null}, pos, nil
	}
	next = pos + n + 2
	if next > len(buf) {
		return r, 0, nil
	}
	r = Reply{Kind: kind, Str: buf[pos : pos+n : pos+n]}
	if kind == Verbatim {
		if n < 4 || r.Str[3] != ':' {
			return r, 0, replyError("verbatim string without a format")
		}
		r.Str = r.Str[4:]
	}
	return r, next, nil
}
