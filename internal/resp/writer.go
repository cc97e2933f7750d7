package resp

import (
	"math"
	"strconv"
	"strings"
)

// Writer appends replies to Buf, in the form that the connection's protocol version has for them. Version 2 has no maps,
// sets, booleans and so on: they become what Redis sends then, as said at each method. The caller sends Buf and cuts it
// to length 0; no method fails, and none allocates while Buf has room.
type Writer struct {
	Buf   []byte
	Proto int // 3, or 2 for every other value
}

func (w *Writer) line(kind byte, n int64) {
	w.Buf = append(w.Buf, kind)
	w.Buf = strconv.AppendInt(w.Buf, n, 10)
	w.Buf = append(w.Buf, '\r', '\n')
}

// pick is the aggregate header of version 3, or an array header of n2 elements.
func (w *Writer) pick(kind byte, n, n2 int) {
	if w.Proto == 3 {
		w.line(kind, int64(n))
	} else {
		w.line('*', int64(n2))
	}
}

// OK appends the status OK.
func (w *Writer) OK() { w.Buf = append(w.Buf, "+OK\r\n"...) }

// Status appends a simple string; s has no line end in it.
func (w *Writer) Status(s string) {
	w.Buf = append(w.Buf, '+')
	w.Buf = append(w.Buf, s...)
	w.Buf = append(w.Buf, '\r', '\n')
}

// Error appends an error; msg begins with its code ("ERR no such thing"). Line ends, which would break the protocol, are
// cut off at the end and become blanks elsewhere, as in Redis.
func (w *Writer) Error(msg string) {
	msg = strings.TrimRight(msg, "\r\n")
	w.Buf = append(w.Buf, '-')
	start := len(w.Buf)
	w.Buf = append(w.Buf, msg...)
	for i, c := range w.Buf[start:] {
		if c == '\r' || c == '\n' {
			w.Buf[start+i] = ' '
		}
	}
	w.Buf = append(w.Buf, '\r', '\n')
}

// Int appends an integer.
func (w *Writer) Int(n int64) {
	if uint64(n) < 10 {
		w.Buf = append(w.Buf, ':', byte('0'+n), '\r', '\n')
		return
	}
	w.line(':', n)
}

// Bulk appends a string of any bytes.
func (w *Writer) Bulk(b []byte) {
	w.line('$', int64(len(b)))
	w.Buf = append(w.Buf, b...)
	w.Buf = append(w.Buf, '\r', '\n')
}

// BulkString is Bulk for a string.
func (w *Writer) BulkString(s string) {
	w.line('$', int64(len(s)))
	w.Buf = append(w.Buf, s...)
	w.Buf = append(w.Buf, '\r', '\n')
}

// BulkInt appends a decimal number as a string.
func (w *Writer) BulkInt(n int64) {
	var digits [20]byte
	w.Bulk(strconv.AppendInt(digits[:0], n, 10))
}

// Null appends the absence of a value. Version 2: a null bulk string.
func (w *Writer) Null() {
	if w.Proto == 3 {
		w.Buf = append(w.Buf, "_\r\n"...)
	} else {
		w.Buf = append(w.Buf, "$-1\r\n"...)
	}
}

// NullArray appends the absence of an array. Version 2: a null array.
func (w *Writer) NullArray() {
	if w.Proto == 3 {
		w.Buf = append(w.Buf, "_\r\n"...)
	} else {
		w.Buf = append(w.Buf, "*-1\r\n"...)
	}
}

// Array begins an array: n replies follow.
func (w *Writer) Array(n int) { w.line('*', int64(n)) }

// Map begins a map: n pairs of replies, key and value, follow. Version 2: a flat array.
func (w *Writer) Map(n int) { w.pick('%', n, 2*n) }

// Set begins a set: n replies follow. Version 2: an array.
func (w *Writer) Set(n int) { w.pick('~', n, n) }

// Push begins an out-of-band message: n replies follow. Version 2: an array.
func (w *Writer) Push(n int) { w.pick('>', n, n) }

// Bool appends a truth value. Version 2: the integer 1 or 0.
func (w *Writer) Bool(b bool) {
	switch {
	case w.Proto != 3 && b:
		w.Int(1)
	case w.Proto != 3:
		w.Int(0)
	case b:
		w.Buf = append(w.Buf, "#t\r\n"...)
	default:
		w.Buf = append(w.Buf, "#f\r\n"...)
	}
}

// Double appends a floating-point number with 17 significant digits, as Redis 7.0 prints it. Version 2: a bulk string.
func (w *Writer) Double(f float64) {
	var digits [32]byte
	d := digits[:0]
	switch {
	case math.IsInf(f, 1):
		d = append(d, "inf"...)
	case math.IsInf(f, -1):
		d = append(d, "-inf"...)
	case math.IsNaN(f):
		d = append(d, "nan"...)
	default:
		d = strconv.AppendFloat(d, f, 'g', 17, 64)
	}
	if w.Proto != 3 {
		w.Bulk(d)
		return
	}
	w.Buf = append(w.Buf, ',')
	w.Buf = append(w.Buf, d...)
	w.Buf = append(w.Buf, '\r', '\n')
}

// Verbatim appends text that is to be shown as it is; format has three characters, "txt" or "mkd". Version 2: a bulk string.
func (w *Writer) Verbatim(format, text string) {
	if w.Proto != 3 {
		w.BulkString(text)
		return
	}
	w.line('=', int64(len(text)+4))
	w.Buf = append(w.Buf, format...)
	w.Buf = append(w.Buf, ':')
	w.Buf = append(w.Buf, text...)
	w.Buf = append(w.Buf, '\r', '\n')
}

// Raw appends bytes that are replies already.
func (w *Writer) Raw(b []byte) { w.Buf = append(w.Buf, b...) }
