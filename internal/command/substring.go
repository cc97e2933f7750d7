package command

import (
	"math/big"
	"strings"
)

var substringCommands = []*Command{
	{Name: "getrange", Arity: 4, Place: Read, Run: getrange,
		Flags: words("readonly"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RO access"), Categories: words("@read @string @slow"),
		Group: "string", Since: "2.4.0", Summary: "Returns a part of the value of a key", Complexity: "O(N), N the length of the value"},
	{Name: "substr", Arity: 4, Place: Read, Run: getrange,
		Flags: words("readonly"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RO access"), Categories: words("@read @string @slow"),
		Group: "string", Since: "1.0.0", Summary: "Returns a part of the value of a key, the same as GETRANGE", Complexity: "O(N), N the length of the value"},
	{Name: "setrange", Arity: 4, Place: Write, Run: setrange,
		Flags: words("write denyoom"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW update"), Categories: words("@write @string @slow"),
		Group: "string", Since: "2.2.0", Summary: "Overwrites a part of the value of a key", Complexity: "O(N), N the new length: a value is written whole"},
	{Name: "incrbyfloat", Arity: 3, Place: Write, Run: incrbyfloat,
		Flags: words("write denyoom fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW access update"), Categories: words("@write @string @fast"),
		Group: "string", Since: "2.6.0", Summary: "Adds a number to the value of a key, which may have a fraction", Complexity: "O(1)"},
	{Name: "lcs", Arity: -3, Place: Read, Run: lcs,
		Flags: words("readonly"), FirstKey: 1, LastKey: 2, Step: 1, KeyFlags: words("RO access"), Categories: words("@read @string @slow"),
		Group: "string", Since: "7.0.0", Summary: "Finds the longest common subsequence of two values", Complexity: "O(N*M), the lengths of the values"},
}

func getrange(c *Ctx) {
	from, ok := c.integer(2)
	if !ok {
		return
	}
	to, ok := c.integer(3)
	if !ok {
		return
	}
	value, _ := c.Tx.Get(c.Args[1])
	n := int64(len(value))
	if from < 0 && to < 0 && from > to {
		c.W.BulkString("")
		return
	}
	if from < 0 {
		from = max(from+n, 0)
	}
	if to < 0 {
		to = max(to+n, 0)
	}
	if to = min(to, n-1); from > to {
		c.W.BulkString("")
		return
	}
	c.W.Bulk(value[from : to+1])
}

// maxString bounds what SETRANGE makes of a value. A value has to fit into a segment of the log, which is less; this is
// where the memory for it is not even asked for.
const maxString = 64 << 20

func setrange(c *Ctx) {
	offset, ok := c.integer(2)
	switch {
	case !ok:
		return
	case offset < 0:
		c.W.Error("ERR offset is out of range")
		return
	}
	key, part := c.Args[1], c.Args[3]
	old, _ := c.Tx.Get(key)
	if len(part) == 0 {
		c.W.Int(int64(len(old))) // nothing changes, so nothing is written
		return
	}
	if offset > maxString-int64(len(part)) {
		c.W.Error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
		return
	}
	value := c.Scratch(max(len(old), int(offset)+len(part)))
	clear(value[copy(value, old):])
	copy(value[offset:], part)
	c.overwrite(key, value)
	c.W.Int(int64(len(value)))
}

// Redis computes with C's long double, which on its usual machines has 64 bits of mantissa and 15 of exponent.
const (
	floatBits   = 64
	floatDigits = 17 // behind the point, before zeros at the end are cut
	maxExponent = 16384
	minExponent = -16446
	maxFloat    = 5 << 10 // characters
)

// parseFloat reads a number as C does, but for numbers in hexadecimal, which are none here.
func parseFloat(b []byte) (*big.Float, bool) {
	if len(b) == 0 || len(b) >= maxFloat {
		return nil, false
	}
	switch strings.TrimLeft(string(asciiLower(b)), "+-") {
	case "inf", "infinity":
		return new(big.Float).SetInf(b[0] == '-'), b[1] != '-' && b[1] != '+'
	}
	for _, c := range b {
		if (c < '0' || c > '9') && c != '+' && c != '-' && c != '.' && c != 'e' && c != 'E' {
			return nil, false
		}
	}
	f, _, err := big.ParseFloat(string(b), 10, floatBits, big.ToNearestEven)
	if err != nil || f.IsInf() || f.Sign() != 0 && (f.MantExp(nil) > maxExponent || f.MantExp(nil) < minExponent) {
		return nil, false
	}
	return f, true
}

func incrbyfloat(c *Ctx) {
	key := c.Args[1]
	n := new(big.Float).SetPrec(floatBits)
	value, found := c.Tx.Get(key)
	ok := true
	if found {
		n, ok = parseFloat(value)
	}
	by, isNumber := parseFloat(c.Args[2])
	if !ok || !isNumber {
		c.W.Error("ERR value is not a valid float")
		return
	}
	if n.IsInf() || by.IsInf() || n.Add(n, by).MantExp(nil) > maxExponent {
		c.W.Error("ERR increment would produce NaN or Infinity")
		return
	}
	sum := n.Append(c.Scratch(floatDigits + 32)[:0], 'f', floatDigits)
	for sum[len(sum)-1] == '0' {
		sum = sum[:len(sum)-1]
	}
	if sum[len(sum)-1] == '.' {
		sum = sum[:len(sum)-1]
	}
	if string(sum) == "-0" {
		sum = sum[1:]
	}
	c.overwrite(key, sum)
	c.W.Bulk(sum)
}
