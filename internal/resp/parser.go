package resp

import (
	"bytes"
	"strings"
)

// Limits bound what one connection can make a server hold. A zero field means its default.
type Limits struct {
	MaxArgs    int // arguments in one command
	MaxBulk    int // bytes in one argument
	MaxInline  int // bytes in one inline command, and in one length header
	MaxCommand int // bytes in one command, headers included
}

// Defaults of [Limits]. Redis allows bulks of 512 MiB; here a value has to fit in one log segment anyway.
const (
	DefaultMaxArgs    = 1024 * 1024
	DefaultMaxBulk    = 64 << 20
	DefaultMaxInline  = 64 << 10
	DefaultMaxCommand = 128 << 20
)

func (l *Limits) setDefaults() {
	for _, f := range []struct {
		field *int
		value int
	}{{&l.MaxArgs, DefaultMaxArgs}, {&l.MaxBulk, DefaultMaxBulk}, {&l.MaxInline, DefaultMaxInline}, {&l.MaxCommand, DefaultMaxCommand}} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
}

// ProtocolError is input that no command can be read from, nor anything behind it. A server answers with the text of
// Error behind "ERR " and closes the connection, as Redis does.
type ProtocolError struct{ Reason string }

func (e *ProtocolError) Error() string { return "Protocol error: " + e.Reason }

var (
	errMultibulkLength = &ProtocolError{"invalid multibulk length"}
	errMultibulkHeader = &ProtocolError{"too big mbulk count string"}
	errBulkLength      = &ProtocolError{"invalid bulk length"}
	errBulkHeader      = &ProtocolError{"too big bulk count string"}
	errInlineSize      = &ProtocolError{"too big inline request"}
	errUnbalanced      = &ProtocolError{"unbalanced quotes in request"}
	errCommandSize     = &ProtocolError{"too big command"} // Redis closes the connection without a word
)

// Parser takes the commands of one connection, in order, out of the bytes that it received. It remembers how far it came
// in a command that is only partly there, so that a large one that arrives in many pieces is read once. The zero value is
// ready, with the default limits.
type Parser struct {
	Limits

	// The command that is partly there. All positions count from its first byte, because its bytes may move between calls.
	pos   int    // parsed up to here
	seen  int    // bytes that were there when the parser last stopped; an inline command is searched for its end from here on
	left  int    // arguments still to come; 0: the header is still to be read
	bulk  int    // length of the argument at pos; -1: its header is still to be read. Undefined while left is 0
	spans []span // arguments complete so far

	args [][]byte // of Next
}

type span struct{ start, end int }

// maxKeptArgs bounds the memory that a parser keeps when a command with very many arguments is done.
const maxKeptArgs = 1024

// Next is [Parser.NextInto] with a slice of the parser's own, which the following Next uses again. It returns nil while
// the command is incomplete.
func (p *Parser) Next(buf []byte) (args [][]byte, n int, err error) {
	if cap(p.args) > maxKeptArgs {
		p.args = nil
	}
	args, n, err = p.NextInto(buf, p.args[:0])
	p.args = args
	if n == 0 {
		args = nil
	}
	return args, n, err
}

// NextInto reads the command that buf begins with, appends its arguments to dst, and says how many bytes it took; the
// caller drops these before the next call.
//
//   - n == 0 without an error: more bytes are needed. The caller calls again with the same bytes and more behind them, at
//     any address. dst comes back unchanged.
//   - n > 0 and nothing appended: an empty command (a blank line, "*0"), to be skipped without a reply.
//   - a [*ProtocolError]: the connection cannot be used further.
//
// The arguments alias buf and are valid as long as its bytes are. An inline command is unquoted in place: the bytes of
// its line change.
func (p *Parser) NextInto(buf []byte, dst [][]byte) (args [][]byte, n int, err error) {
	if len(buf) == 0 {
		return dst, 0, nil
	}
	if buf[0] != '*' {
		return p.inline(buf, dst)
	}
	if done, err := p.multibulk(buf); !done {
		return dst, 0, err
	}
	for _, s := range p.spans {
		dst = append(dst, buf[s.start:s.end:s.end])
	}
	n = p.pos
	p.reset()
	return dst, n, nil
}

// Need is a lower bound of the length of the command that is partly there, in bytes, for sizing the buffer. It trusts the
// announced length of the next argument: whoever allocates by it should grow in steps as the bytes arrive.
func (p *Parser) Need() int {
	if p.left > 0 && p.bulk >= 0 {
		return p.pos + p.bulk + 2
	}
	return max(p.pos, p.seen) + 1
}

func (p *Parser) reset() {
	p.pos, p.seen, p.left = 0, 0, 0
	if cap(p.spans) > maxKeptArgs {
		p.spans = nil
	}
	p.spans = p.spans[:0]
}

// multibulk goes on with an array of bulk strings. It keeps its state in locals until it stops: this is the hot path.
func (p *Parser) multibulk(buf []byte) (done bool, err error) {
	pos := p.pos
	if p.left == 0 {
		if p.MaxArgs == 0 || p.MaxBulk == 0 || p.MaxInline == 0 || p.MaxCommand == 0 {
			p.setDefaults()
		}
		count, next, ok := length(buf, 1)
		if next == 0 {
			return false, p.header(buf, 0, errMultibulkHeader)
		}
		if next > p.MaxInline+2 {
			return false, errMultibulkHeader
		}
		if !ok || count > p.MaxArgs {
			return false, errMultibulkLength
		}
		if count <= 0 {
			p.pos = next
			return true, nil
		}
		p.left, p.bulk, pos = count, -1, next
	}
	left, bulk := p.left, p.bulk
	for ; left > 0; left-- {
		if bulk < 0 {
			if pos < len(buf) && buf[pos] != '$' {
				p.pos, p.left, p.bulk = pos, left, -1
				return false, p.noBulk(buf)
			}
			size, next, ok := length(buf, pos+1)
			if next == 0 {
				p.pos, p.left, p.bulk = pos, left, -1
				return false, p.header(buf, pos, errBulkHeader)
			}
			if next-pos > p.MaxInline+2 {
				return false, errBulkHeader
			}
			if !ok || size < 0 || size > p.MaxBulk {
				return false, errBulkLength
			}
			if next+size > p.MaxCommand {
				return false, errCommandSize
			}
			bulk, pos = size, next
		}
		// The two bytes behind an argument are skipped unseen, as in Redis.
		if len(buf)-pos < bulk+2 {
			p.pos, p.left, p.bulk, p.seen = pos, left, bulk, len(buf)
			return false, nil
		}
		p.spans = append(p.spans, span{pos, pos + bulk})
		pos += bulk + 2
		bulk = -1
	}
	p.pos = pos
	return true, nil
}

// noBulk is the error for something else where an argument should begin. Redis reads that line to its end first, and so
// complains about one that has none in another way.
func (p *Parser) noBulk(buf []byte) error {
	if i := bytes.IndexByte(buf[p.pos:], '\r'); i < 0 || i > p.MaxInline || p.pos+i+1 == len(buf) {
		return p.header(buf, p.pos, errBulkHeader)
	}
	return &ProtocolError{"expected '$', got '" + string(buf[p.pos:p.pos+1]) + "'"}
}

// header says what to do about a line that is not whole: wait, or give up on one that is too long. The answer depends on
// the bytes alone, not on the pieces in which they came.
func (p *Parser) header(buf []byte, start int, tooLong *ProtocolError) error {
	p.seen = len(buf)
	rest := buf[start:]
	if i := bytes.IndexByte(rest, '\r'); i > p.MaxInline || i < 0 && len(rest) > p.MaxInline {
		return tooLong
	}
	return nil
}

// length reads the decimal number between start and the next CR, in the only spelling that Redis takes: no plus sign, no
// leading zero, no minus zero. next is behind the line's two end bytes; 0: they are not there yet.
func length(buf []byte, start int) (v, next int, ok bool) {
	for i := start; i < len(buf); i++ {
		c := buf[i] - '0'
		if c <= 9 {
			if i-start > 9 {
				break
			}
			v = v*10 + int(c)
			continue
		}
		if buf[i] != '\r' || i == start || (buf[start] == '0' && i-start > 1) {
			break
		}
		if i+1 == len(buf) {
			return 0, 0, false
		}
		return v, i + 2, true
	}
	return oddLength(buf, start)
}

// oddLength is length for what is not one to ten digits: incomplete, negative or no number at all.
func oddLength(buf []byte, start int) (v, next int, ok bool) {
	if start > len(buf) {
		return 0, 0, false
	}
	i := bytes.IndexByte(buf[start:], '\r')
	if i < 0 || start+i+1 == len(buf) {
		return 0, 0, false
	}
	n, ok := ParseInt(buf[start : start+i])
	return int(n), start + i + 2, ok
}

// inline reads a command in the form that a person types: words with blanks between them, quoted as in a shell.
func (p *Parser) inline(buf []byte, dst [][]byte) (args [][]byte, n int, err error) {
	if p.MaxInline == 0 {
		p.setDefaults()
	}
	end := bytes.IndexByte(buf[p.seen:], '\n')
	if end < 0 {
		p.seen = len(buf)
		if len(buf) > p.MaxInline {
			return dst, 0, errInlineSize
		}
		return dst, 0, nil
	}
	end += p.seen
	if end > p.MaxInline {
		return dst, 0, errInlineSize
	}
	p.seen = 0
	line := buf[:end:end]
	if end > 0 && line[end-1] == '\r' {
		line = line[:end-1]
	}
	args, ok := splitLine(line, dst)
	if !ok {
		return dst, 0, errUnbalanced
	}
	return args, end + 1, nil
}

// splitLine appends the words of line to dst, unquoting them in place, which never makes them longer. ok is false when a
// quote stays open or something sticks to a closing one.
func splitLine(line []byte, dst [][]byte) (words [][]byte, ok bool) {
	for r := 0; ; {
		for r < len(line) && isBlank(line[r]) {
			r++
		}
		if r == len(line) {
			return dst, true
		}
		word, next, ok := unquoteWord(line, r)
		if !ok {
			return dst, false
		}
		dst = append(dst, word)
		r = next
	}
}

// unquoteWord reads one word from start on. A quote may open in the middle of a word, and ends it.
func unquoteWord(line []byte, start int) (word []byte, next int, ok bool) {
	w := start
	var quote byte
	for r := start; r < len(line); {
		c := line[r]
		switch {
		case quote == 0 && isBlank(c) && c != '\v' && c != '\f': // a word may have these inside, as in Redis
			return line[start:w:w], r, true
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
			r++
			continue
		case quote != 0 && c == quote:
			if r+1 < len(line) && !isBlank(line[r+1]) {
				return nil, 0, false
			}
			return line[start:w:w], r + 1, true
		case quote != 0 && c == '\\' && r+1 < len(line):
			c, r = unescape(line, r, quote)
		default:
			r++
		}
		line[w] = c
		w++
	}
	return line[start:w:w], len(line), quote == 0
}

// unescape reads the escape sequence at r. Single quotes know only \'.
func unescape(line []byte, r int, quote byte) (c byte, next int) {
	e := line[r+1]
	if quote == '\'' {
		if e == '\'' {
			return e, r + 2
		}
		return '\\', r + 1
	}
	if e == 'x' && r+3 < len(line) {
		if hi, lo := hexDigit(line[r+2]), hexDigit(line[r+3]); hi >= 0 && lo >= 0 {
			return byte(hi<<4 | lo), r + 4
		}
	}
	if i := strings.IndexByte("nrtba", e); i >= 0 {
		e = "\n\r\t\b\a"[i]
	}
	return e, r + 2
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// isBlank is C's isspace.
func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
