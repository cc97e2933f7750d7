package command

import (
	"math"
	"strconv"

	"whale/internal/resp"
)

var stringCommands = []*Command{
	{Name: "get", Arity: 2, Place: Read, Run: get,
		Flags: words("readonly fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RO access"), Categories: words("@read @string @fast"),
		Group: "string", Since: "1.0.0", Summary: "Returns the value of a key", Complexity: "O(1)"},
	{Name: "set", Arity: -3, Place: Write, Run: set,
		Flags: words("write denyoom"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW access update variable_flags"),
		KeyNotes: "RW and ACCESS due to the optional `GET` argument", Categories: words("@write @string @slow"),
		Group: "string", Since: "1.0.0", Summary: "Sets the value of a key; with NX or XX only if it is absent or present, with GET returning the old value", Complexity: "O(1)"},
	{Name: "setnx", Arity: 3, Place: Write, Run: setnx,
		Flags: words("write denyoom fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("OW insert"), Categories: words("@write @string @fast"),
		Group: "string", Since: "1.0.0", Summary: "Sets the value of a key that does not exist", Complexity: "O(1)"},
	{Name: "getset", Arity: 3, Place: Write, Run: getset,
		Flags: words("write denyoom fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW access update"), Categories: words("@write @string @fast"),
		Group: "string", Since: "1.0.0", Summary: "Sets the value of a key and returns the old one", Complexity: "O(1)"},
	{Name: "mget", Arity: -2, Place: Read, Run: mget,
		Flags: words("readonly fast"), FirstKey: 1, LastKey: -1, Step: 1, KeyFlags: words("RO access"), Categories: words("@read @string @fast"),
		Tips:  words("request_policy:multi_shard"),
		Group: "string", Since: "1.0.0", Summary: "Returns the values of several keys, of one moment", Complexity: "O(N), N the number of keys"},
	{Name: "mset", Arity: -3, Place: Write, Run: mset,
		Flags: words("write denyoom"), FirstKey: 1, LastKey: -1, Step: 2, KeyFlags: words("OW update"), Categories: words("@write @string @slow"),
		Tips:  words("request_policy:multi_shard response_policy:all_succeeded"),
		Group: "string", Since: "1.0.1", Summary: "Sets the values of several keys at once", Complexity: "O(N), N the number of keys"},
	{Name: "msetnx", Arity: -3, Place: Write, Run: msetnx,
		Flags: words("write denyoom"), FirstKey: 1, LastKey: -1, Step: 2, KeyFlags: words("OW insert"), Categories: words("@write @string @slow"),
		Tips:  words("request_policy:multi_shard response_policy:agg_min"),
		Group: "string", Since: "1.0.1", Summary: "Sets the values of several keys if none of them exists", Complexity: "O(N), N the number of keys"},
	{Name: "append", Arity: 3, Place: Write, Run: appendValue,
		Flags: words("write denyoom fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW insert"), Categories: words("@write @string @fast"),
		Group: "string", Since: "2.0.0", Summary: "Appends to the value of a key and returns the new length", Complexity: "O(N), N the new length: a value is written whole"},
	{Name: "strlen", Arity: 2, Place: Read, Run: strlen,
		Flags: words("readonly fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RO"), Categories: words("@read @string @fast"),
		Group: "string", Since: "2.2.0", Summary: "Returns the length of the value of a key", Complexity: "O(1)"},
	{Name: "incr", Arity: 2, Place: Write, Run: func(c *Ctx) { add(c, 1) },
		Flags: words("write denyoom fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW access update"), Categories: words("@write @string @fast"),
		Group: "string", Since: "1.0.0", Summary: "Adds one to the integer value of a key", Complexity: "O(1)"},
	{Name: "decr", Arity: 2, Place: Write, Run: func(c *Ctx) { add(c, -1) },
		Flags: words("write denyoom fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW access update"), Categories: words("@write @string @fast"),
		Group: "string", Since: "1.0.0", Summary: "Subtracts one from the integer value of a key", Complexity: "O(1)"},
	{Name: "incrby", Arity: 3, Place: Write, Run: incrby,
		Flags: words("write denyoom fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW access update"), Categories: words("@write @string @fast"),
		Group: "string", Since: "1.0.0", Summary: "Adds a number to the integer value of a key", Complexity: "O(1)"},
	{Name: "decrby", Arity: 3, Place: Write, Run: decrby,
		Flags: words("write denyoom fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW access update"), Categories: words("@write @string @fast"),
		Group: "string", Since: "1.0.0", Summary: "Subtracts a number from the integer value of a key", Complexity: "O(1)"},
}

func get(c *Ctx) { c.bulkOrNull(c.Tx.Get(c.Args[1])) }

// setOptions is what stands behind SET's value.
type setOptions struct {
	nx, xx, get bool
	expiry
}

// set follows Redis 7.0 in that NX and GET go together: then nothing is set when the old value is returned.
func set(c *Ctx) {
	o, ok := parseSetOptions(c)
	if !ok {
		c.W.Error(errSyntax)
		return
	}
	var at int64
	if o.timed() {
		if at, ok = o.deadline(c); !ok {
			return
		}
	}
	key := c.Args[1]
	var old []byte
	var found bool
	if o.nx || o.xx || o.get {
		old, found = c.Tx.Get(key)
	}
	skip := o.nx && found || o.xx && !found
	if !skip {
		if o.option == "keepttl" {
			at, _ = c.Tx.Deadline(key)
		}
		c.Tx.SetUntil(key, c.Args[2], at)
	}
	switch {
	case o.get:
		c.bulkOrNull(old, found)
	case skip:
		c.W.Null()
	default:
		c.W.OK()
	}
}

func parseSetOptions(c *Ctx) (o setOptions, ok bool) {
	for i := 3; i < len(c.Args); i++ {
		switch {
		case c.is(i, "nx") && !o.xx:
			o.nx = true
		case c.is(i, "xx") && !o.nx:
			o.xx = true
		case c.is(i, "get"):
			o.get = true
		default:
			if i, ok = o.parse(c, i, "keepttl"); !ok {
				return o, false
			}
		}
	}
	return o, true
}

func setnx(c *Ctx) {
	_, found := c.Tx.Get(c.Args[1])
	if !found {
		c.Tx.Set(c.Args[1], c.Args[2])
	}
	c.bit(!found)
}

func getset(c *Ctx) {
	old, found := c.Tx.Get(c.Args[1])
	c.Tx.Set(c.Args[1], c.Args[2])
	c.bulkOrNull(old, found)
}

func mget(c *Ctx) {
	c.W.Array(len(c.Args) - 1)
	for _, key := range c.Args[1:] {
		c.bulkOrNull(c.Tx.Get(key))
	}
}

func mset(c *Ctx) {
	if len(c.Args)%2 == 0 {
		c.W.Error(wrongArity("mset"))
		return
	}
	for i := 1; i < len(c.Args); i += 2 {
		c.Tx.Set(c.Args[i], c.Args[i+1])
	}
	c.W.OK()
}

func msetnx(c *Ctx) {
	if len(c.Args)%2 == 0 {
		c.W.Error(wrongArity("msetnx"))
		return
	}
	for i := 1; i < len(c.Args); i += 2 {
		if _, found := c.Tx.Get(c.Args[i]); found {
			c.bit(false)
			return
		}
	}
	for i := 1; i < len(c.Args); i += 2 {
		c.Tx.Set(c.Args[i], c.Args[i+1])
	}
	c.bit(true)
}

func appendValue(c *Ctx) {
	key, tail := c.Args[1], c.Args[2]
	old, found := c.Tx.Get(key)
	if found && len(tail) == 0 {
		c.W.Int(int64(len(old))) // nothing changes, so nothing is written
		return
	}
	value := c.Scratch(len(old) + len(tail))
	copy(value[copy(value, old):], tail)
	c.overwrite(key, value)
	c.W.Int(int64(len(value)))
}

// overwrite gives a key another value; it expires when it would have expired.
func (c *Ctx) overwrite(key, value []byte) {
	at, _ := c.Tx.Deadline(key)
	c.Tx.SetUntil(key, value, at)
}

func strlen(c *Ctx) {
	value, _ := c.Tx.Get(c.Args[1])
	c.W.Int(int64(len(value)))
}

func incrby(c *Ctx) {
	if by, ok := c.integer(2); ok {
		add(c, by)
	}
}

func decrby(c *Ctx) {
	by, ok := c.integer(2)
	switch {
	case !ok:
	case by == math.MinInt64:
		c.W.Error("ERR decrement would overflow") // it has no negative
	default:
		add(c, -by)
	}
}

// add is INCR and its kin: an absent key counts as 0.
func add(c *Ctx, by int64) {
	value, found := c.Tx.Get(c.Args[1])
	var n int64
	if found {
		var ok bool
		if n, ok = resp.ParseInt(value); !ok {
			c.W.Error(errNotInteger)
			return
		}
	}
	if addOverflows(n, by) {
		c.W.Error("ERR increment or decrement would overflow")
		return
	}
	n += by
	c.overwrite(c.Args[1], strconv.AppendInt(c.Scratch(20)[:0], n, 10))
	c.W.Int(n)
}
