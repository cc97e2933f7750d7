package command

var renameCommands = []*Command{
	{Name: "type", Arity: 2, Place: Read, Run: typeOf,
		Flags: words("readonly fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RO"), Categories: words("@keyspace @read @fast"),
		Group: "generic", Since: "1.0.0", Summary: "Returns the type of a key's value: string, or none if there is no such key", Complexity: "O(1)"},
	{Name: "touch", Arity: -2, Place: Read, Run: exists,
		Flags: words("readonly fast"), FirstKey: 1, LastKey: -1, Step: 1, KeyFlags: words("RO"), Categories: words("@keyspace @read @fast"),
		Tips:  words("request_policy:multi_shard response_policy:agg_sum"),
		Group: "generic", Since: "3.2.1", Summary: "Counts how many of the named keys exist", Complexity: "O(N), N the number of keys"},
	{Name: "rename", Arity: 3, Place: Write, Run: rename,
		Flags: words("write"), FirstKey: 1, LastKey: 2, Step: 1, KeyFlags: words("RW access delete"), SecondKeyFlags: words("OW update"), Categories: words("@keyspace @write @slow"),
		Group: "generic", Since: "1.0.0", Summary: "Gives a key another name", Complexity: "O(N), N the length of the value: it is written again"},
	{Name: "renamenx", Arity: 3, Place: Write, Run: renamenx,
		Flags: words("write fast"), FirstKey: 1, LastKey: 2, Step: 1, KeyFlags: words("RW access delete"), SecondKeyFlags: words("OW insert"), Categories: words("@keyspace @write @fast"),
		Group: "generic", Since: "1.0.0", Summary: "Gives a key another name that no key has", Complexity: "O(N), N the length of the value: it is written again"},
	{Name: "copy", Arity: -3, Place: Write, Run: copyKey,
		Flags: words("write denyoom"), FirstKey: 1, LastKey: 2, Step: 1, KeyFlags: words("RO access"), SecondKeyFlags: words("OW update"), Categories: words("@keyspace @write @slow"),
		Group: "generic", Since: "6.2.0", Summary: "Copies the value of a key, and when it expires, to another key", Complexity: "O(N), N the length of the value"},
}

func typeOf(c *Ctx) {
	if _, found := c.Tx.Get(c.Args[1]); found {
		c.W.Status("string")
	} else {
		c.W.Status("none")
	}
}

const errNoKey = "ERR no such key"

// move lets the key of argument 2 be what that of argument 1 was.
func (c *Ctx) move(value []byte) {
	at, _ := c.Tx.Deadline(c.Args[1])
	c.Tx.Del(c.Args[1])
	c.Tx.SetUntil(c.Args[2], value, at)
}

func rename(c *Ctx) {
	value, found := c.Tx.Get(c.Args[1])
	if !found {
		c.W.Error(errNoKey)
		return
	}
	if string(c.Args[1]) != string(c.Args[2]) {
		c.move(value)
	}
	c.W.OK()
}

func renamenx(c *Ctx) {
	value, found := c.Tx.Get(c.Args[1])
	if !found {
		c.W.Error(errNoKey)
		return
	}
	_, taken := c.Tx.Get(c.Args[2]) // by itself, too
	if !taken {
		c.move(value)
	}
	c.bit(!taken)
}

func copyKey(c *Ctx) {
	replace := false
	for i := 3; i < len(c.Args); i++ {
		switch {
		case c.is(i, "replace"):
			replace = true
		case c.is(i, "db") && i+1 < len(c.Args):
			db, ok := c.integer(i + 1)
			if !ok {
				return
			}
			if db != 0 {
				c.W.Error("ERR DB index is out of range")
				return
			}
			i++
		default:
			c.W.Error(errSyntax)
			return
		}
	}
	if string(c.Args[1]) == string(c.Args[2]) {
		c.W.Error("ERR source and destination objects are the same")
		return
	}
	value, found := c.Tx.Get(c.Args[1])
	_, taken := c.Tx.Get(c.Args[2])
	if !found || taken && !replace {
		c.bit(false)
		return
	}
	at, _ := c.Tx.Deadline(c.Args[1])
	c.Tx.SetUntil(c.Args[2], value, at)
	c.bit(true)
}
